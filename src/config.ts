/**
 * The type of `sluice.config.ts`, the settings file of the command, checked by the compiler. The names are those of the
 * environment variables, which override the file; flags override both.
 *
 * ```ts
 * import { defineConfig } from "effect-sluice/config"
 *
 * export default defineConfig({ DATABASE_URL: "postgres://user@host:5432/database", SLUICE_LEASE: "30s" })
 * ```
 */
import type * as Duration from "effect/Duration"
import type { Redact } from "./Redaction.ts"
import type * as Settings from "./Settings.ts"

/** The variable of a setting: `batchSize` is `SLUICE_BATCH_SIZE`. */
export type Variable<Name extends string> = `SLUICE_${Uppercase<Snake<Name>>}`
/** `batchSize` is `batch_Size`. */
export type Snake<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? First extends Lowercase<First> ? `${First}${Snake<Rest>}` : `_${First}${Snake<Rest>}`
  : ""

/** A duration is written as a string, `"30 seconds"` or `"30s"`. */
export type Written<A> = A extends Duration.Duration ? string : A

/** The settings of the library, by their names in the environment. */
export type LibrarySettings = {
  readonly [Field in keyof Settings.Values as Variable<Field>]?: Written<Settings.Values[Field]>
}

/** The settings of the command. Each of them except the last can also be given by a flag. */
export interface CommandSettings {
  /** The Postgres server's address; without, the embedded database in `./.sluice`, if it is there. */
  readonly DATABASE_URL?: string
  /** Whether the command prints JSON. */
  readonly SLUICE_JSON?: boolean
  /** Folders or globs of handler modules, relative to the working directory. */
  readonly SLUICE_HANDLERS?: string | ReadonlyArray<string>
  /** The namespace whose chunks `drain` claims. */
  readonly SLUICE_NAMESPACE?: string
  /** How many drains `drain` runs at the same time, 1 to 64. */
  readonly SLUICE_WORKERS?: number
  /** Whether `drain` continues until nothing is due. */
  readonly SLUICE_UNTIL_EMPTY?: boolean
  /** `drain` runs until it is stopped, and looks for work this often: `"5s"`. */
  readonly SLUICE_EVERY?: string
  /** `drain` runs until it is stopped, and looks for work at these times: at five past each hour, `"5 * * * *"`. */
  readonly SLUICE_CRON?: string
  /** `drain` continues until nothing is due, for at most this long: `"8s"`. */
  readonly SLUICE_FOR?: string
  /** The port on which `drain` serves `/metrics`, `/health` and `/ready`. */
  readonly SLUICE_METRICS_PORT?: number
  /** The address of that port; without it, all addresses of this machine. */
  readonly SLUICE_METRICS_HOST?: string
  /** How long a due chunk may wait before `doctor` reports it: `"1h"`. */
  readonly SLUICE_MAX_AGE?: string
  /** How long a handler module may take to load; the default is 10 seconds. */
  readonly SLUICE_LOAD_TIMEOUT?: string
}

/** The settings of the exporter of traces, metrics and the log. */
export type ExporterSettings = { readonly [Name in `OTEL_${string}`]?: string | number | boolean }

/** The contents of `sluice.config.ts`. */
export interface SluiceConfig extends LibrarySettings, CommandSettings, ExporterSettings {
  /**
   * Hides what people must not see of recorded JSON: in `show`, `dead`, `stuck`, as text and as JSON, and in the messages of
   * the drain's log. See `effect-sluice/Redaction`.
   *
   * ```ts
   * export default defineConfig({
   *   redact: (json) => typeof json === "string" ? json.replaceAll(/\d{4,}/g, "…") : json
   * })
   * ```
   */
  readonly redact?: Redact | undefined
}

/** Types the settings of `sluice.config.ts`; the command also validates them when it reads the file. */
export const defineConfig = (config: SluiceConfig): SluiceConfig => config
