/**
 * Workers on networks that swallow packets and at addresses that lead elsewhere: they go on by themselves, and say so.
 */
import { it } from "@effect/vitest"
import {
  ChunkStore,
  DomainEvents,
  Drain,
  DrainWorker,
  HandlerRegistry,
  Inspector,
  Output,
  OutputGroup,
  Settings
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { call, record, reply } from "../contract/operators/dialogues.ts"
import { type Proxy, startProxy } from "../faults/proxy.ts"
import { type Cluster, startCluster } from "../support/cluster.ts"
import { client, freshDatabase, migratedDatabase, runAt } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

class PatientReply extends Output.make(reply, { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}
const Chatlab = OutputGroup.make("chatlab", PatientReply)
const nothing = Chatlab.toLayer({ "patient-reply": () => Effect.void })

const limits = {
  lease: Duration.seconds(2),
  beatInterval: Duration.millis(200),
  pollInterval: Duration.millis(100),
  handlerTimeout: Duration.seconds(1),
  gracePeriod: Duration.seconds(1),
  statementTimeout: Duration.seconds(1),
  notify: false,
  listen: false
} as const
const settings = Settings.layer(limits)

type Handlers = Layer.Layer<Layer.Success<typeof nothing>, never, SqlClient.SqlClient>

/** A worker as a program has one, its tables there already. */
const worker = (url: string, handlers: Handlers = nothing) =>
  DrainWorker.layer().pipe(
    Layer.provideMerge(Drain.layer),
    Layer.provide(HandlerRegistry.layer(Chatlab)),
    Layer.provide(handlers),
    Layer.provide(DomainEvents.layer),
    Layer.provide(PgStore.layerStorage),
    Layer.provide(settings),
    Layer.provide(client(url, { maxConnections: 3 })),
    Layer.fresh
  )

const proxyTo = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(() => startProxy(port)),
    (proxy) => Effect.promise(() => proxy.close())
  )

/** The address of a database through a proxy. */
const through = (url: string, proxy: Proxy): string => {
  const { pathname, username } = new URL(url)
  return `postgres://${username}@127.0.0.1:${proxy.port}${pathname}`
}

/** Past the proxy. */
const direct = <A, E>(url: string, program: Effect.Effect<A, E, ChunkStore.ChunkStore | SqlClient.SqlClient>) =>
  Effect.provide(
    program,
    Layer.fresh(PgStore.layer).pipe(
      Layer.provide(Settings.layer({ notify: false, listen: false })),
      Layer.provideMerge(Layer.fresh(client(url)))
    ),
    { local: true }
  )

/** Waits until a call is in the ledger. */
const persisted = (url: string, callId: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => untilIt(sql`select 1 from sluice.persisted_chunk where call_id = ${callId}`, (rows) => rows.length > 0)
  ).pipe(Effect.provide(Layer.fresh(client(url)), { local: true }))

/** All that is logged is kept. */
const listening = (lines: Array<string>) =>
  Logger.layer([Logger.map(Logger.formatSimple, (line) => void lines.push(line))])

describe("connections on which nothing passes any more", () => {
  it.live(
    "are given up by a worker, which says so and goes on by new ones",
    () =>
      Effect.gen(function*() {
        const url = yield* migratedDatabase()
        const proxy = yield* proxyTo(Number(new URL(url).port))
        const lines: Array<string> = []
        yield* direct(url, record(call("a")))
        yield* Effect.gen(function*() {
          yield* persisted(url, "a")
          for (const callId of ["b", "c"]) {
            proxy.silence()
            yield* direct(url, record(call(callId)))
            yield* persisted(url, callId)
          }
          yield* untilIt(
            Drain.Drain.use((drain) => drain.health),
            ({ silent, trouble }) => silent === undefined && trouble === undefined
          )
        }).pipe(Effect.provide(worker(through(url, proxy))), Effect.provide(listening(lines)))
        expect(lines.join("\n")).toMatch(/the database gave no answer within 1s to \w+; its connection is closed/)
      }).pipe(Effect.scoped)
  )

  describe.each(["batch", "together", "transaction"] as const)(
    "cost no attempt where a handler waits at one, %s",
    (isolation) => {
      it.live.each(["a statement that the server never had", "an answer that never came"])(
        "%s",
        (lost) =>
          Effect.gen(function*() {
            const url = yield* migratedDatabase()
            const proxy = yield* proxyTo(Number(new URL(url).port))
            yield* runAt(url, "create table turn (call_id text primary key)")
            let isFirst = true
            const writing = Chatlab.toLayer(Effect.map(SqlClient.SqlClient, (sql) => ({
              "patient-reply": {
                isolation,
                persist: ({ call: { callId } }) => {
                  const isLost = callId === "b" && isFirst
                  if (isLost) {
                    isFirst = false
                  }
                  if (isLost && lost === "a statement that the server never had") proxy.silence()
                  // its answer is on its way when nothing passes any more
                  if (isLost && lost === "an answer that never came") setTimeout(proxy.silence, 300)
                  return sql`insert into turn (call_id) select ${callId} from pg_sleep(${isLost ? 0.6 : 0})`
                }
              }
            })))
            yield* direct(url, Effect.forEach(["a", "b", "c"], (callId) => record(call(callId)), { discard: true }))
            yield* Effect.gen(function*() {
              for (const callId of ["a", "b", "c"]) yield* persisted(url, callId)
            }).pipe(Effect.provide(worker(through(url, proxy), writing)))
            expect(isFirst).toBe(false)
            const found = yield* direct(
              url,
              SqlClient.SqlClient.use((sql) =>
                Effect.all({
                  failures: sql`select call_id, message from sluice.chunk_failure`,
                  turns: sql`select call_id from turn order by 1`
                })
              )
            )
            expect(found).toEqual({ failures: [], turns: ["a", "b", "c"].map((call_id) => ({ call_id })) })
          }).pipe(Effect.scoped)
      )
    }
  )

  const claim = { worker: "w", limit: 1, maxBytes: 1e6, lease: Duration.seconds(10) }
  const token = "00000000-0000-4000-8000-000000000000"
  const chunk = { key: { callId: "z", schemaIdentity: reply, part: "" }, namespace: "chatlab", handler: "h" }
  const verbs: Readonly<
    Record<string, Effect.Effect<unknown, unknown, ChunkStore.ChunkStore | Inspector.Inspector>>
  > = {
    record: ChunkStore.ChunkStore.use((store) => store.record([call("x")])),
    begin: ChunkStore.ChunkStore.use((store) => store.begin(call("y"), Duration.seconds(10))),
    claim: ChunkStore.ChunkStore.use((store) => store.claim(claim)),
    giveUp: ChunkStore.ChunkStore.use((store) => store.giveUp(token)),
    beat: ChunkStore.ChunkStore.use((store) => store.beat("w", [])),
    leave: ChunkStore.ChunkStore.use((store) => store.leave("w")),
    releaseWaiting: ChunkStore.ChunkStore.use((store) => store.releaseWaiting),
    persist: ChunkStore.ChunkStore.use((store) => store.persist(token, () => Effect.succeed([]))),
    once: ChunkStore.ChunkStore.use((store) => store.once(chunk, Effect.succeed([]))),
    status: Inspector.Inspector.use((inspector) => inspector.status),
    call: Inspector.Inspector.use((inspector) => inspector.call("x")),
    nextDue: Inspector.Inspector.use((inspector) => inspector.nextDue),
    callsThatMade: Inspector.Inspector.use((inspector) =>
      inspector.callsThatMade([{ type: "chatlab.Message", id: "1" }])
    ),
    retrying: Inspector.Inspector.use((inspector) => inspector.vitals.scheduled)
  }

  /** The error of a verb whose connection worked, and then fell silent. */
  const errorOf = Effect.fnUntraced(function*(url: string, verb: string) {
    const proxy = yield* proxyTo(Number(new URL(url).port))
    // a busy machine may be slower than the limit, also to connect
    const services = yield* Layer.build(
      PgStore.layerStorage.pipe(
        Layer.provide(Settings.layer({ ...limits, statementTimeout: Duration.millis(300) })),
        Layer.provide(client(through(url, proxy), { maxConnections: 1 })),
        Layer.fresh
      )
    ).pipe(Effect.retry({ while: ({ _tag }) => _tag === "SqlError" }))
    return yield* Inspector.Inspector.use((inspector) => inspector.status).pipe(
      Effect.retry({ while: ({ transient }) => transient }),
      Effect.andThen(Effect.sync(() => proxy.silence())),
      Effect.andThen(Effect.flip(verbs[verb]!)),
      Effect.provideContext(services)
    )
  }, Effect.scoped)

  it.live(
    "make every verb fail within its time limit, with an error that says that it may be tried again",
    () =>
      Effect.gen(function*() {
        const url = yield* migratedDatabase()
        const errors = yield* Effect.forEach(
          Object.keys(verbs),
          (verb) => Effect.map(errorOf(url, verb), (error) => [verb, error] as const),
          { concurrency: "unbounded" }
        )
        for (const [verb, error] of errors) {
          expect({ verb, error }).toMatchObject({ verb, error: { _tag: "ChunkStoreError", transient: true } })
        }
      }).pipe(Effect.scoped)
  )
})

describe("a start", () => {
  const starts = {
    "with migrations": { layer: PgStore.layer, migrated: false },
    "without any to apply": { layer: PgStore.layer, migrated: true },
    "of a command that reads": { layer: PgStore.layerAsItIs, migrated: true }
  }

  /** Starts while one statement is never answered. Returns how that ended, and whether there was such a statement. */
  const startWithout = Effect.fnUntraced(function*(url: string, layer: typeof PgStore.layer, answer: number) {
    const proxy = yield* proxyTo(Number(new URL(url).port))
    let isMet = false
    proxy.watch(({ number, side }) => {
      if (number !== answer || side === "before") return "pass"
      isMet = true
      return new Promise(() => undefined)
    })
    const exit = yield* Effect.exit(Effect.scoped(Layer.build(
      layer.pipe(
        Layer.provide(Settings.layer({ ...limits, statementTimeout: Duration.millis(300) })),
        Layer.provide(client(through(url, proxy), { maxConnections: 2 })),
        Layer.fresh
      )
    )))
    return { exit, isMet }
  }, Effect.scoped)

  for (const [what, { layer, migrated }] of Object.entries(starts)) {
    it.live(`${what} ends, whichever of its first statements is never answered`, () =>
      Effect.gen(function*() {
        const ends = yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7], (answer) =>
          Effect.gen(function*() {
            const url = yield* (migrated ? migratedDatabase() : freshDatabase())
            // on a busy machine it may end before, at a connection that takes longer than the limit: then it is begun again
            return yield* Effect.repeat(startWithout(url, layer, answer), {
              until: ({ exit, isMet }) => isMet || Exit.isSuccess(exit)
            })
          }), { concurrency: "unbounded" })
        expect(ends.filter(({ isMet }) => isMet).length).toBeGreaterThan(1)
        for (const { exit } of ends) {
          if (Exit.isFailure(exit)) expect(Cause.pretty(exit.cause)).toMatch(/no answer within 300ms|no connection/)
        }
      }).pipe(Effect.scoped))
  }
})

describe.each([15, 18] as const)("an address that leads elsewhere, on Postgres %i", (version) => {
  const server = (options: { readonly standbyOf?: Cluster } = {}) =>
    Effect.acquireRelease(
      Effect.promise(() => startCluster({ version, ...options })),
      (cluster) => Effect.promise(() => cluster.remove())
    )

  it.live(
    "to a standby first, and then to the primary; to the one that takes its place when it is gone",
    () =>
      Effect.gen(function*() {
        const primary = yield* server()
        yield* runAt(primary.url(), "create database ward")
        yield* direct(primary.url("ward"), record(call("a")))
        const standby = yield* server({ standbyOf: primary })
        const proxy = yield* proxyTo(standby.port)
        yield* Effect.gen(function*() {
          const { health } = yield* Drain.Drain
          yield* untilIt(health, ({ trouble }) => trouble !== undefined)
          proxy.lead(primary.port)
          yield* persisted(primary.url("ward"), "a")
          yield* untilIt(health, ({ trouble }) => trouble === undefined)
          yield* direct(primary.url("ward"), record(call("b")))
          // the standby has it
          yield* persisted(standby.url("ward"), "b")
          yield* Effect.promise(() => primary.crash())
          yield* runAt(standby.url(), "select pg_promote()")
          proxy.lead(standby.port)
          yield* direct(standby.url("ward"), record(call("c")))
          yield* persisted(standby.url("ward"), "c")
        }).pipe(Effect.provide(worker(through(primary.url("ward"), proxy))))
      }).pipe(Effect.scoped)
  )
})
