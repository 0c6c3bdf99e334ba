/**
 * The images that patients' replies ask for, attached by a subscriber of `DomainEvents`.
 *
 * An event is a hint that may be lost in a crash, so the subscriber takes none of its work from it: the table says what
 * is missing, the event only says when to look. It also looks once at its start.
 */
import { DomainEvents } from "effect-sluice"
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { memoryTable as messages } from "./Messages.ts"
import { PatientReply } from "./outputs.ts"
import type { TableError } from "./tables.ts"

/** The table `chatlab.media`. */
export class Media extends Context.Service<Media, {
  /** Attaches an image to every message that asked for one and has none. */
  readonly attachMissing: Effect.Effect<void, TableError>
  /** How many images are attached, and how many more are asked for. */
  readonly count: Effect.Effect<{ readonly attached: number; readonly missing: number }, TableError>
}>()("chatlab/Media") {
  static readonly layerPg = Layer.effect(
    Media,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const isMissing = sql.literal(
        `image_requested and not exists (select from chatlab.media where message_id = message.id)`
      )
      const attachMissing = sql`insert into chatlab.media (message_id, kind)
        select id, 'image' from chatlab.message where ${isMissing} on conflict (message_id) do nothing`
      const count = Effect.map(
        sql<{ attached: number; missing: number }>`select (select count(*)::int from chatlab.media) as attached,
          (select count(*)::int from chatlab.message where ${isMissing}) as missing`,
        (rows) => rows[0]!
      )
      return Media.of({ attachMissing: Effect.asVoid(attachMissing), count })
    })
  )

  static readonly layerMemory = Layer.effect(
    Media,
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const media = table<{ readonly messageId: string; readonly kind: string }>("chatlab.media")
      const missing = db.use((access) =>
        access.values(messages).filter(({ id, imageRequested }) => imageRequested && !access.get(media, id))
      )
      const attach = (messageId: string) =>
        db.use((access) => access.set(media, messageId, { messageId, kind: "image" }))
      return Media.of({
        attachMissing: Effect.flatMap(missing, Effect.forEach(({ id }) => attach(id), { discard: true })),
        count: Effect.all({
          attached: db.use((access) => access.values(media).length),
          missing: Effect.map(missing, (rows) => rows.length)
        })
      })
    })
  )
}

/** The subscriber: attaches images for as long as its layer lives. */
export const MediaSubscriber = Layer.effectDiscard(Effect.gen(function*() {
  const media = yield* Media
  const created = yield* (yield* DomainEvents).subscribe
  const attach = Effect.catchCause(media.attachMissing, (cause) => Effect.logWarning("no image attached", cause))
  yield* attach
  yield* created.pipe(
    Stream.filter(DomainEvents.from(PatientReply)),
    // one look for however many replies have come since the last one
    Stream.runForEachArray(() => attach),
    Effect.forkScoped
  )
}))
