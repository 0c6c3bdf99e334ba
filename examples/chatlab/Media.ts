/**
 * Attaches the images that patients' replies ask for, by a durable subscription. Each message is delivered at least once,
 * even if the program dies right after the message was committed. A message may be delivered again, so an image is attached
 * only to a message without one.
 */
import { DomainEvents, Subscription } from "effect-sluice"
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { memoryTable as messages } from "./Messages.ts"
import { PatientReply } from "./outputs.ts"
import type { TableError } from "./tables.ts"

/** The table `chatlab.media`. */
export class Media extends Context.Service<Media, {
  /** Attaches an image to each of these messages that asks for one and has none. */
  readonly attach: (messageIds: ReadonlyArray<string>) => Effect.Effect<void, TableError>
  /** How many images are attached, and how many are still missing. */
  readonly count: Effect.Effect<{ readonly attached: number; readonly missing: number }, TableError>
}>()("chatlab/Media") {
  static readonly layerPg = Layer.effect(
    Media,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const attach = (ids: ReadonlyArray<string>) =>
        sql`insert into chatlab.media (message_id, kind)
          select id, 'image' from chatlab.message where id = any(${ids}::bigint[]) and image_requested
          on conflict (message_id) do nothing`
      const count = Effect.map(
        sql<{ attached: number; missing: number }>`select (select count(*)::int from chatlab.media) as attached,
          (select count(*)::int from chatlab.message
            where image_requested and not exists (select from chatlab.media where message_id = message.id)) as missing`,
        (rows) => rows[0]!
      )
      return Media.of({ attach: (ids) => Effect.asVoid(attach(ids)), count })
    })
  )

  static readonly layerMemory = Layer.effect(
    Media,
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const media = table<{ readonly messageId: string; readonly kind: string }>("chatlab.media")
      return Media.of({
        attach: (ids) =>
          db.use((access) => {
            for (const messageId of ids) {
              if (access.get(messages, messageId)?.imageRequested !== true) continue
              access.set(media, messageId, { messageId, kind: "image" })
            }
          }),
        count: db.use((access) => {
          const asking = access.values(messages).filter((message) => message.imageRequested)
          const missing = asking.filter(({ id }) => access.get(media, id) === undefined).length
          return { attached: asking.length - missing, missing }
        })
      })
    })
  )
}

/** The subscriber: attaches images for as long as its layer lives. */
export const MediaSubscriber = Layer.unwrap(Effect.map(Media, (media) =>
  Subscription.layer(
    "chatlab.media",
    // takes the replies of many calls together, and sends one statement for all
    { handleMany: (events) => media.attach(events.map(({ object }) => object.id)) },
    { filter: DomainEvents.from(PatientReply) }
  )))
