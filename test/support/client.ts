/**
 * A client of a database and the settings as they are by default, for tests and for the programs they start.
 */
import { PgClient } from "@effect/sql-pg"
import * as Settings from "effect-sluice/Settings"
import type * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

/** A client of a database; settings that a test provides above it win. */
export const client = (
  url: string,
  options: { readonly maxConnections?: number; readonly connectionTTL?: Duration.Input } = {}
) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections: 10, ...options }).pipe(
    Layer.merge(Settings.layer())
  )
