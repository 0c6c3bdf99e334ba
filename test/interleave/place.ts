/**
 * Places to begin from: what there is of one ordering key, a word for each of its chunks, from the oldest on.
 */
import type { ClaimedChunk } from "effect-sluice/ChunkStore"
import type { Client } from "pg"
import { keyOf, reply } from "../contract/operators/dialogues.ts"

/** Where a chunk stands. `leased` and `expired` are of one claim; the lease of the latter is over. */
export type State = "ready" | "leased" | "expired" | "scheduled" | "parked" | "waiting" | "dead" | "discarded"

/** The places, by name: the states of the chunks `a`, `b`, … of the key. */
export const places = [
  "ready ready ready",
  "leased ready ready",
  "leased waiting waiting",
  "leased leased ready",
  "expired ready ready",
  "expired waiting waiting",
  "scheduled waiting ready",
  "scheduled scheduled",
  "parked waiting ready",
  "dead ready ready",
  "dead dead ready",
  "dead waiting waiting",
  "dead ready dead ready",
  "dead waiting dead waiting",
  "discarded waiting ready",
  "leased dead ready",
  "waiting ready",
  "leased waiting waiting waiting",
  "leased waiting ready, ends",
  "dead waiting waiting, ends",
  "leased dead ready, ends"
] as const

/** The states a place's name says. */
export const statesOf = (place: string): ReadonlyArray<State> =>
  place.split(", ")[0]!.split(" ") as ReadonlyArray<State>

/** Whether somebody is told the ends of calls there: then the calls of the place are open. */
export const tellsEnds = (place: string): boolean => place.endsWith(", ends")

/** Whether its first chunk waits behind nothing, as after a setting was switched. */
export const startsStranded = (place: string): boolean => /^(discarded )*waiting/.test(place)

/** The calls of the key, in its order; and one of another namespace with a key of the same name, and two without a key. */
export const names = ["a", "b", "c", "d"]

/** The fingerprint of the two calls without a key: these can be persisted inside the server. */
export const fingerprint = 7

/** What a session may hold from the beginning. */
export interface Held {
  readonly token: string
  readonly chunks: ReadonlyArray<ClaimedChunk>
}

const token = "00000000-0000-4000-8000-000000000001"

const isDead = (state: State): boolean => state === "dead" || state === "discarded"

const columns = "seq, call_id, namespace, schema_identity, schema_version, ordering_key"

const callRow = (id: string, namespace: string, index: number) =>
  `('${id}', '${namespace}', 'services.chatlab.standardized_patient.generate-reply', '${id}', 'succeeded', array['{"data":1}'::json],
    '{"patientId":"Miller","turn":"${index % 2 === 0 ? "odd" : "even"}"}')`

/** A row of the queue, or of the dead letters. */
const chunkRow = (id: string, seq: number, state: State): string => {
  const chunk = `${seq}, '${id}', 'chatlab', '${reply}', 1, 'knee'`
  if (isDead(state)) {
    return `insert into sluice.dead_letter (${columns}, position, bytes, priority, reason, handler, message, attempts, crashes,
        recorded_at, died_at, discarded_at)
      values (${chunk}, 0, 1, 0, 'rejected', 'h', 'no', 1, 0, now(), now() - interval '1 minute',
        ${state === "discarded" ? "now()" : "null"});`
  }
  const held = state === "leased" || state === "expired"
  return `insert into sluice.chunk_queue (${columns}, state, parked_for, attempts, due_at, rank, lease_token, lease_until, leased_by)
    values (${chunk}, '${held ? "ready" : state}', ${state === "parked" ? "'no-handler'" : "null"},
      ${state === "scheduled" ? 1 : 0}, now() - interval '1 minute', now() - interval '1 minute',
      ${held ? `'${token}'` : "null"}, ${
    held ? `now() + interval '${state === "leased" ? 3600 : -1} seconds'` : "null"
  },
      ${held ? "'w'" : "null"});`
}

/** Empties the tables, makes the place, and gives back what is held there. */
export const makePlace = async (db: Client, place: string): Promise<Held | undefined> => {
  const states = statesOf(place)
  const ids = names.slice(0, states.length)
  await db.query(`
    delete from sluice.chunk_queue; delete from sluice.service_call; delete from sluice.persisted_chunk;
    delete from sluice.dead_letter; delete from sluice.chunk_failure; delete from sluice.pause; delete from sluice.worker;
    delete from sluice.subscription; delete from sluice.erasure; delete from note; delete from told; delete from told_end;
    delete from visit; delete from sluice.call_subscription; delete from sluice.open_call; delete from sluice.call_end;
    delete from sluice.subscription_skip; delete from sluice.call_attempt; delete from sluice.usage_entry;
    delete from sluice.usage_total;
    insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs, context)
      values ${
    [
      ...ids.map((id, index) => callRow(id, "chatlab", index)),
      callRow("other", "triage", 0),
      callRow("free", "chatlab", 1),
      callRow("free too", "chatlab", 2)
    ].join()
  };
    insert into sluice.service_call (call_id, namespace, service, correlation_id, status, ordering_key)
      values ('i', 'chatlab', 'services.chatlab.standardized_patient.generate-reply', 'i', 'invalid', 'knee');
    ${
    tellsEnds(place)
      ? `insert into sluice.subscription (name, xact, seq) values ('ends', '0', 0);
    insert into sluice.call_subscription (name) values ('ends');
    insert into sluice.open_call (call_id) select call_id from sluice.service_call where status = 'succeeded';`
      : ""
  }
    ${states.map((state, index) => chunkRow(ids[index]!, index + 1, state)).join("\n")}
    insert into sluice.chunk_queue (${columns}, fingerprint) values
      (8, 'other', 'triage', '${reply}', 1, 'knee', null), (9, 'free', 'chatlab', '${reply}', 1, null, ${fingerprint}),
      (10, 'free too', 'chatlab', '${reply}', 1, null, ${fingerprint});
    select setval('sluice.chunk_seq', 100)`)
  const chunks = ids.flatMap((id, index) =>
    states[index] === "leased" || states[index] === "expired"
      // as much of a claimed chunk as a store looks at when it settles it
      ? [{
        seq: BigInt(index + 1),
        key: keyOf(id),
        namespace: "chatlab",
        schemaVersion: 1,
        orderingKey: "knee"
      } as ClaimedChunk]
      : []
  )
  return chunks.length === 0 ? undefined : { token, chunks }
}
