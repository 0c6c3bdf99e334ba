/**
 * The other process of the latency bench: persists each record after its notification, and reports when it was committed.
 */
import { DomainEvents, Drain, DrainWorker, HandlerRegistry, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Client } from "pg"
import { Chatlab, client, declared, perRecord } from "../systems/sluice.ts"

/** How it learns of records: by a LISTEN of its own, by Sluice's hints (with a program or a declared handler), or by polling. */
export type Mode = "floor" | "notify" | "declared" | "poll"

const [mode, url = ""] = process.argv.slice(2)
const tell = (callId: string) => process.send?.({ callId, at: String(process.hrtime.bigint()) })

const floor = async () => {
  const listener = new Client({ connectionString: url })
  const writer = new Client({ connectionString: url })
  await listener.connect()
  await writer.connect()
  listener.on("notification", ({ payload = "" }) => {
    const insert = {
      name: "insert",
      text: `insert into bench.message (call_id, role, content, metadata)
        select call_id, payload ->> 'role', payload ->> 'content', payload -> 'metadata'
        from bench.recorded where call_id = $1`,
      values: [payload]
    }
    void writer.query(insert).then(() => tell(payload))
  })
  await listener.query("listen bench")
  process.send?.({ ready: true })
}

const sluice = Effect.gen(function*() {
  const events = yield* (yield* DomainEvents.DomainEvents).subscribe
  yield* Layer.build(DrainWorker.layer().pipe(Layer.provide(Drain.layer)))
  process.send?.({ ready: true })
  yield* Stream.runForEach(events, ({ key }) => Effect.sync(() => tell(key.callId)))
}).pipe(
  Effect.scoped,
  Effect.provide(
    HandlerRegistry.layer(Chatlab).pipe(
      Layer.provide(mode === "declared" ? declared() : perRecord),
      Layer.provideMerge(Layer.merge(PgStore.layer, DomainEvents.layer)),
      Layer.provideMerge(client(url, 5)),
      Layer.provideMerge(
        Settings.layer(mode === "poll" ? { notify: false, listen: false, pollInterval: Duration.millis(100) } : {})
      )
    )
  )
)

process.on("disconnect", () => process.exit(0))
if (mode === "floor") await floor()
else await Effect.runPromise(sluice)
