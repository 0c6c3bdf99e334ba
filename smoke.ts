import { Effect, Layer, Schema, Option } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { CallRecorder, ChunkStore, DomainEvents, DomainObject, Drain, HandlerRegistry, Output, OutputGroup } from "./src/index.ts"
import * as PgStore from "./src/store/PgStore.ts"
import * as Pglite from "./src/store/Pglite.ts"
class Reply extends Output.make("schemas.chatlab.sp.patient-reply", { schema: Schema.Struct({ text: Schema.String }) }) {}
const G = OutputGroup.make("chatlab", Reply)
const H = G.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table if not exists msg (id bigint generated always as identity, call_id text, t text)`
  return G.of({ "patient-reply": Effect.fn(function*({ output, call }) {
    if (output.text === "bad") return yield* Effect.fail(new Error("bad"))
    if (output.text === "sqlbad") yield* sql`select 1/0`
    const [row] = yield* sql<{id: bigint}>`insert into msg (call_id, t) values (${call.callId}, ${output.text}) returning id`
    if (output.text === "late") return yield* Effect.fail(new Error("late"))
    return DomainObject.make("Msg", row!.id)
  }) })
}))
const Db = Pglite.layer()
const App = Drain.layer.pipe(Layer.provideMerge(CallRecorder.layer), Layer.provideMerge(DomainEvents.layer), Layer.provide(HandlerRegistry.layer(G)), Layer.provide(H), Layer.provideMerge(PgStore.layer), Layer.provideMerge(Db))
const call = (i: number, text: unknown, schema = Reply.identity as string) => ({ callId: `c${i}`, namespace: "chatlab", service: "services.chatlab.sp.gen", orderingKey: `k${i % 3}`, outputs: [{ schema, version: 1, data: { text } as any }] })
await Effect.runPromise(Effect.gen(function*() {
  const r = yield* CallRecorder; const d = yield* Drain; const s = yield* ChunkStore; const sql = yield* SqlClient.SqlClient
  console.log(yield* r.recordMany(Array.from({ length: 12 }, (_, i) => call(i, `t${i}`))))
  console.log(yield* r.record(call(1, "t1")), yield* Effect.flip(r.record(call(1, "other"))))
  console.log(yield* d.untilEmpty)
  yield* r.recordMany([call(20, "ok"), call(21, "bad"), call(24, "behind"), call(22, "late"), call(23, "sqlbad"), call(30, 5), call(31, "x", "schemas.a.b.c")])
  console.log(yield* d.cycle)
  console.log(yield* s.status)
  console.dir(yield* s.call("c21"), { depth: 6 })
  console.log(yield* d.persistNow("c1"), yield* Effect.flip(d.persistNow("c21")), yield* Effect.flip(d.persistNow("c31")))
  console.log(yield* sql`select * from msg`)
  console.log(yield* s.nextDue)
}).pipe(Effect.provide(App)))
