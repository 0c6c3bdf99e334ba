/**
 * What may stand in `sluice.config.ts`, the settings of the command, for the compiler to check. The names are those of the
 * environment, which wins over the file; flags win over both.
 *
 * ```ts
 * import { defineConfig } from "effect-sluice/config"
 *
 * export default defineConfig({ DATABASE_URL: "postgres://user@host:5432/database", SLUICE_LEASE: "30s" })
 * ```
 */
import type * as Duration from "effect/Duration"
import type * as Settings from "./Settings.ts"

/** `batchSize` in the environment: `SLUICE_BATCH_SIZE`. */
type Variable<Name extends string> = `SLUICE_${Uppercase<Snake<Name>>}`
type Snake<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? First extends Lowercase<First> ? `${First}${Snake<Rest>}` : `_${First}${Snake<Rest>}`
  : ""

/** A duration is written as a text, `"30 seconds"` or `"30s"`. */
type Written<A> = A extends Duration.Duration ? string : A

/** The settings of the library, by their names in the environment. */
export type LibrarySettings = {
  readonly [Field in keyof Settings.Values as Variable<Field>]?: Written<Settings.Values[Field]>
}

/** The settings of the command. Each can be given by a flag as well, but for the last. */
export interface CommandSettings {
  /** The Postgres server's address; without, the embedded database in `./.sluice`, if it is there. */
  readonly DATABASE_URL?: string
  /** Whether answers are JSON. */
  readonly SLUICE_JSON?: boolean
  /** Folders or globs of handler modules, from the working directory. */
  readonly SLUICE_HANDLERS?: string | ReadonlyArray<string>
  /** The namespace whose chunks `drain` takes. */
  readonly SLUICE_NAMESPACE?: string
  /** How many drains `drain` runs at once, 1 to 64. */
  readonly SLUICE_WORKERS?: number
  /** Whether `drain` goes on until nothing is due. */
  readonly SLUICE_UNTIL_EMPTY?: boolean
  /** `drain` runs until it is told to stop, and looks this often: `"5s"`. */
  readonly SLUICE_EVERY?: string
  /** `drain` runs until it is told to stop, and looks at these times: at five past each hour, `"5 * * * *"`. */
  readonly SLUICE_CRON?: string
  /** `drain` goes on until nothing is due, for so long at most: `"8s"`. */
  readonly SLUICE_FOR?: string
  /** The port on which `drain` serves `/metrics`, `/health` and `/ready`. */
  readonly SLUICE_METRICS_PORT?: number
  /** The address it listens on there; all of this machine's, without. */
  readonly SLUICE_METRICS_HOST?: string
  /** How long a due chunk may have waited before `doctor` says so: `"1h"`. */
  readonly SLUICE_MAX_AGE?: string
  /** How long a handler module may take to load, 10 seconds without. */
  readonly SLUICE_LOAD_TIMEOUT?: string
}

/** What the exporter of traces, metrics and the log reads. */
export type ExporterSettings = { readonly [Name in `OTEL_${string}`]?: string | number | boolean }

/** All that may stand in `sluice.config.ts`. */
export interface SluiceConfig extends LibrarySettings, CommandSettings, ExporterSettings {}

/** Settings.Values for `sluice.config.ts`, checked by the compiler; the command checks them again when it reads the file. */
export const defineConfig = (config: SluiceConfig): SluiceConfig => config
