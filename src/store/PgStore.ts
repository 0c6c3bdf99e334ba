/**
 * The store on Postgres 15 to 18, over any `SqlClient` of `@effect/sql-pg`. It keeps no session state, so it works on a
 * pool behind a transaction-mode pooler (then make the client with `prepare: false`).
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { ChunkStore } from "../ChunkStore.ts"
import { DeadLetters } from "../DeadLetters.ts"
import { Erasure } from "../Erasure.ts"
import { EventLog } from "../EventLog.ts"
import { Inspector } from "../Inspector.ts"
import { Pauses } from "../Pauses.ts"
import { Retention } from "../Retention.ts"
import * as Settings from "../Settings.ts"
import { WakeUp } from "../WakeUp.ts"
import * as Migrations from "./Migrations.ts"
import { abandon } from "./pg/abandon.ts"
import { beat } from "./pg/beat.ts"
import { begin } from "./pg/begin.ts"
import { claim } from "./pg/claim.ts"
import { leavingEnded } from "./pg/connection.ts"
import * as contacts from "./pg/contact.ts"
import * as deadLetters from "./pg/deadLetters.ts"
import { type Engine, make as makeEngine } from "./pg/engine.ts"
import * as erasure from "./pg/erasure.ts"
import { isTransientOfHandler } from "./pg/errors.ts"
import * as eventLog from "./pg/eventLog.ts"
import { explaining } from "./pg/explaining.ts"
import { find } from "./pg/find.ts"
import { giveUp } from "./pg/giveUp.ts"
import { persistInside } from "./pg/inside.ts"
import * as inspector from "./pg/inspector.ts"
import { isNew } from "./pg/isNew.ts"
import { leave } from "./pg/leave.ts"
import { ledger } from "./pg/ledger.ts"
import { once } from "./pg/once.ts"
import { outsideOf } from "./pg/outside.ts"
import * as pauses from "./pg/pauses.ts"
import { persist } from "./pg/persist.ts"
import { glance, type Ground, preflight } from "./pg/preflight.ts"
import { probe } from "./pg/probe.ts"
import * as rebase from "./pg/rebase.ts"
import { record } from "./pg/record.ts"
import { recordDecoded } from "./pg/recordDecoded.ts"
import { recordHeld } from "./pg/recordHeld.ts"
import { recordInside } from "./pg/recordInside.ts"
import { releaseWaiting } from "./pg/releaseWaiting.ts"
import { renew } from "./pg/renew.ts"
import { renewRun } from "./pg/renewRun.ts"
import * as repairs from "./pg/repairs.ts"
import * as retention from "./pg/retention.ts"
import { settle } from "./pg/settle.ts"
import { tables } from "./pg/tables.ts"
import * as wakeUps from "./pg/wakeUp.ts"
import type { Purpose } from "./Rights.ts"
import type { Stores } from "./Stores.ts"
import { eachVerb, named } from "./verbs.ts"

/** The engine's verbs. Each is in a file of its name. */
const chunkStore = (engine: Engine): ChunkStore["Service"] =>
  ChunkStore.of({
    record: record(engine),
    recordHeld: recordHeld(engine),
    recordInside: recordInside(engine),
    recordDecoded: recordDecoded(engine),
    isNested: engine.t.client.isCallers,
    isNew: isNew(engine),
    begin: begin(engine),
    renewRun: renewRun(engine),
    abandon: abandon(engine),
    find: find(engine),
    claim: claim(engine),
    persistInside: persistInside(engine),
    giveUp: giveUp(engine),
    renew: renew(engine),
    persist: persist(engine),
    probe: probe(engine),
    isTransient: isTransientOfHandler,
    outsideOf: outsideOf(engine.t.sql),
    settle: settle(engine),
    once: once(engine),
    afterCommit: (effect) => engine.t.sql.afterCommit(effect),
    beat: beat(engine),
    leave: leave(engine),
    releaseWaiting: releaseWaiting(engine),
    ledger: ledger(engine)
  })

/** Makes a store. `look` examines the database first and returns what it learned. */
const makeOn = Effect.fnUntraced(function*<E>(
  look: (sql: SqlClient.SqlClient, settings: Settings.Values) => Effect.Effect<Ground, E>
) {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const settings = yield* Settings.Settings
  const { pooled, role } = yield* look(sql, settings)
  const t = tables(sql, settings.schema, settings.statementTimeout)
  const wakeUp = yield* wakeUps.make(sql, settings, pooled)
  const contact = contacts.make(settings.lease)
  const engine = chunkStore(yield* makeEngine(t, settings, contact, wakeUp))
  const store = contacts.watch(eachVerb(engine, leavingEnded(sql)), contact)
  /**
   * A service whose errors name the verb and, for a missing right, the role that lacks it and the grant for this purpose.
   */
  const port = <S extends object>(name: string, purpose: Purpose, verbs: S): S =>
    role === undefined ? named(name, verbs) : explaining(settings.schema, role, purpose)(named(name, verbs))
  const letters = deadLetters.make(t, wakeUp.hint("chunks"))
  return Context.make(ChunkStore, port("ChunkStore", "worker", store)).pipe(
    Context.add(Inspector, port("inspector", "operator", inspector.make(t, settings))),
    Context.add(DeadLetters, port("deadLetters", "operator", { ...letters, ...repairs.make(t, letters.redrive) })),
    Context.add(Pauses, port("pauses", "operator", pauses.make(t, sql.afterCommit(wakeUp.hint("pauses"))))),
    Context.add(Retention, port("retention", "operator", retention.make(t))),
    Context.add(Erasure, port("erasure", "operator", erasure.make(t, wakeUp.hint("chunks")))),
    Context.add(EventLog, port("eventLog", "subscriber", eventLog.make(t))),
    Context.add(WakeUp, wakeUp)
  )
})

const deaf = Layer.effect(
  Settings.Settings,
  Effect.map(Settings.Settings, (settings) => ({ ...settings, listen: false }))
)

/** @internal The store without checks of the database, for diagnosing one. Does not listen for hints. */
export const layerUnchecked: Layer.Layer<Stores, never, SqlClient.SqlClient | Settings.Settings> = Layer.effectContext(
  makeOn(() => Effect.succeed({ pooled: true }))
).pipe(Layer.provide(deaf))

/** @internal The store with checks of the tables only, for commands that record nothing. Does not listen for hints. */
export const layerAsItIs = Layer.effectContext(makeOn(glance)).pipe(Layer.provide(deaf))

/**
 * The store, on a database that already has Sluice's tables (`Migrations`). Fails with `DatabaseUnfit` where it must not
 * start: the database is not UTF8, the search path names `pg_catalog` after another schema, Sluice did not create the
 * tables, or a part of them is missing, a pooler in transaction mode is in front of a client that prepares statements, or a
 * pooler in statement mode is in front of any client.
 */
export const layerStorage: Layer.Layer<
  Stores,
  Migrations.DatabaseUnfit | SqlError,
  SqlClient.SqlClient | Settings.Settings
> = Layer.effectContext(makeOn(preflight))

/** The store; brings Sluice's tables up to date first. Safe when many processes start concurrently. */
export const layer: Layer.Layer<Stores, Migrations.MigrationError, SqlClient.SqlClient | Settings.Settings> =
  layerStorage.pipe(
    Layer.provide(Layer.effectDiscard(rebase.atStart)),
    Layer.provide(Migrations.layer)
  )
