/**
 * Effect's own persisted queue. An element is acknowledged after its handler, so the ledger is what keeps a second run
 * from writing twice.
 */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { checked, versionOf } from "./peer.ts"
import type { System } from "./system.ts"

const Element = Schema.Struct({
  callId: Schema.String,
  payload: Schema.Struct({
    role: Schema.String,
    content: Schema.String,
    metadata: Schema.Struct({
      model: Schema.String,
      language: Schema.String,
      tokens: Schema.Struct({ input: Schema.Int, output: Schema.Int }),
      tags: Schema.Array(Schema.String),
      rubric: Schema.Array(Schema.Struct({ key: Schema.String, value: Schema.String }))
    })
  })
})

/** The queue with a handler of one transaction. */
export const effectPersistedQueue: System = {
  about: `Effect ${versionOf("effect")} PersistedQueue on sql-pg ${versionOf("@effect/sql-pg")}, 40 takers, ` +
    "a transaction an element",
  open: async (url, { inFlight = 40 }) => {
    const scope = Scope.makeUnsafe()
    const base = PersistedQueue.layer.pipe(
      Layer.provide(PersistedQueue.layerStoreSql()),
      // a connection for each taker, and some to poll and acknowledge
      Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: inFlight + 4 }))
    )
    const context = await Effect.runPromise(Layer.buildWithScope(base, scope))
    const queue = await Effect.runPromise(
      PersistedQueue.make({ name: "calls", schema: Element }).pipe(Effect.provideContext(context))
    )
    const persist = Effect.fnUntraced(function*({ callId, payload }: typeof Element.Type) {
      const sql = yield* SqlClient.SqlClient
      const [kept] = yield* sql<{ id: string }>`
        insert into bench.ledger (call_id, handler, object_id)
        values (${callId}, 'bench/message', nextval('bench.message_id_seq'))
        on conflict do nothing returning object_id::text as id`
      // none: the call was done before
      if (kept === undefined) return
      yield* sql`
        insert into bench.message (id, call_id, role, content, metadata) overriding system value
        values (
          ${kept.id}::bigint, ${callId}, ${payload.role}, ${payload.content}, ${JSON.stringify(payload.metadata)}::jsonb
        )`
    })
    const drain = Effect.fnUntraced(function*(count: number) {
      const sql = yield* SqlClient.SqlClient
      let asked = 0
      // as many takes as there are elements, so that no taker is left waiting
      const taker = Effect.gen(function*() {
        while (asked < count) {
          asked++
          yield* queue.take((element) => sql.withTransaction(persist(element)))
        }
      })
      yield* Effect.all(Array.from({ length: inFlight }, () => taker), { concurrency: "unbounded", discard: true })
    })
    return checked(url, {
      // it offers one at a time only
      fill: (calls) =>
        Effect.runPromise(Effect.forEach(
          calls,
          ({ callId, payload }) => queue.offer({ callId, payload }, { id: callId }),
          { concurrency: inFlight, discard: true }
        )),
      drain: (count) => Effect.runPromise(drain(count).pipe(Effect.provideContext(context))),
      close: () => Effect.runPromise(Scope.close(scope, Exit.void))
    })
  }
}
