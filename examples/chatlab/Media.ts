/**
 * The images patients' replies ask for, attached by a subscriber of `DomainEvents`.
 *
 * An event is a hint that may be lost in a crash, so the subscriber takes none of its work from it: the table says what
 * is missing, the event only says when to look. It also looks once at its start.
 */
import { DomainEvents } from "effect-sluice"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { PatientReply } from "./outputs.ts"
import type { TableError } from "./tables.ts"

/** The table `chatlab.media`. */
export class Media extends Context.Service<Media, {
  /** Attaches an image to every message that asked for one and has none. Says how many it attached. */
  readonly attachMissing: Effect.Effect<number, TableError>
  readonly count: Effect.Effect<number, TableError>
}>()("chatlab/Media") {
  static readonly layerPg = Layer.effect(
    Media,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const attachMissing = Effect.map(
        sql`insert into chatlab.media (message_id, kind)
          select id, 'image' from chatlab.message m
          where image_requested and not exists (select from chatlab.media where message_id = m.id)
          on conflict (message_id) do nothing returning message_id`,
        (rows) => rows.length
      )
      const count = Effect.map(sql<{ n: number }>`select count(*)::int as n from chatlab.media`, (rows) => rows[0]!.n)
      return Media.of({ attachMissing, count })
    })
  )
}

/** The subscriber: attaches images for as long as its layer lives. */
export const MediaSubscriber = Layer.effectDiscard(Effect.gen(function*() {
  const media = yield* Media
  const events = yield* DomainEvents
  const created = yield* events.subscribe
  const attach = Effect.catchCause(media.attachMissing, (cause) => Effect.logWarning("no image attached", cause))
  yield* attach
  yield* created.pipe(
    Stream.filter(DomainEvents.from(PatientReply)),
    // one look for however many replies have come since the last one
    Stream.runForEachArray(() => attach),
    Effect.forkScoped
  )
}))
