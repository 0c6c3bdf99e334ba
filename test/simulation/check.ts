/**
 * What must be true of every picture, said from the plan alone: it knows nothing of how the drain works.
 */
import { Card, type Planned, Unserved } from "./plan.ts"
import type { Picture } from "./simulate.ts"

/** How a chunk must end, and with how many failures on record. */
const expected = ({ note, schema }: Planned): { readonly end: string; readonly failures: number } => {
  if (schema === Unserved.identity) return { end: "parked", failures: 0 }
  if (note === undefined) return { end: "dead: undecodable", failures: 1 }
  switch (note.fate) {
    case "creates":
      return { end: "persisted", failures: 0 }
    case "fails":
    case "throws":
    case "hangs":
      return { end: "persisted", failures: note.times }
    case "exhausts":
      return { end: "dead: exhausted", failures: 3 }
    case "rejects":
      return { end: "dead: rejected", failures: 1 }
    case "kills":
      return { end: "dead: crashing", failures: 1 }
  }
}

/**
 * Whether a lease may have run out: somebody died, was frozen, did not hear what it had claimed, gave back in vain, or could
 * not renew it.
 */
const mayHaveCrashed = ({ calls, happened }: Picture): boolean =>
  [
    "killed before",
    "killed after",
    "frozen",
    "claim's answer lost",
    "renewal silent",
    "not given back",
    "read-only"
  ].some((what) => happened.has(what)) ||
  calls.some(({ chunks }) => chunks.some(({ note }) => note?.fate === "kills"))

type Key = Picture["queue"][number]["key"]
const print = (key: Key): string => `${key.callId} ${key.schemaIdentity.split(".").at(-1)} ${key.part}`.trimEnd()

/** All that is wrong with a picture; nothing, if all is well. */
export const violations = (picture: Picture): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  if (!picture.ended) wrong.push("it did not come to rest")
  if (picture.crashed.length > 0 && !mayHaveCrashed(picture)) {
    wrong.push(`${picture.crashed} counted a crash, and nobody died`)
  }
  for (const callId of picture.again) wrong.push(`${callId} was run again though its answer was recorded`)
  const chunks = picture.calls.flatMap(({ call, chunks }) =>
    chunks.map((planned, index) => ({
      planned,
      key: { callId: call.callId, schemaIdentity: planned.schema, part: index === 0 ? "" : "second" }
    }))
  )
  const at = <A extends { readonly key: Key }>(rows: ReadonlyArray<A>, key: Key) =>
    rows.filter((row) => print(row.key) === print(key))

  // one key after the other: what is behind a chunk that ended badly must not have been persisted
  const held = new Map<string, string>()
  const places = new Map(picture.ledger.map((row, index) => [print(row.key), index]))
  const last = new Map<string, number>()
  for (const { key, planned } of chunks) {
    const name = print(key)
    const queued = at(picture.queue, key)
    const buried = at(picture.dead, key)
    const lines = at(picture.ledger, key)
    const rows = picture.domain.filter((row) =>
      print({ callId: row.callId, schemaIdentity: row.schema, part: row.part }) === name
    )
    const ends = [
      ...queued.map((row) => row.state === "parked" ? "parked" : "outstanding"),
      ...buried.map((row) => `dead: ${row.reason}`),
      ...lines.map(() => "persisted")
    ]
    const want = expected(planned)
    const orderingKey = planned.orderingKey
    const holder = orderingKey === undefined ? undefined : held.get(orderingKey)
    if (ends.length !== 1) wrong.push(`${name} has ${ends.length} ends: ${ends.join(", ")}`)
    if (holder !== undefined) {
      if (lines.length > 0 || rows.length > 0) wrong.push(`${name} went ahead of ${holder}, which holds its key`)
    } else if (ends[0] !== want.end && ends.length === 1) {
      wrong.push(`${name} is ${ends[0]}, not ${want.end}`)
    }
    if (orderingKey !== undefined && want.end !== "persisted" && holder === undefined) held.set(orderingKey, name)

    const isOfCall = planned.note?.uses === "setting" || planned.schema === Card.identity
    const tenant = isOfCall ? key.callId : undefined
    for (const row of rows) {
      if (row.tenant !== tenant) wrong.push(`${name} made a row of ${row.tenant ?? "nobody"}`)
    }
    if (lines.length > 0) {
      const count = planned.note?.rows ?? 0
      if (rows.length !== count) wrong.push(`${name} made ${rows.length} rows, not ${count}`)
      const objects = lines.flatMap((line) => line.objects.map((object) => object.id))
      if (String(objects) !== String(rows.map((row) => row.id))) wrong.push(`${name}: the ledger names other rows`)
      const texts = rows.map((row) => row.text)
      if (texts.some((text, index) => text !== String(index))) wrong.push(`${name} made rows of ${texts}`)
    } else if (rows.length > 0) {
      wrong.push(`${name} is not in the ledger and made ${rows.length} rows`)
    }

    const place = places.get(name)
    if (orderingKey !== undefined && place !== undefined) {
      if (place < (last.get(orderingKey) ?? -1)) {
        wrong.push(`${name} was persisted before an older one of ${orderingKey}`)
      }
      last.set(orderingKey, place)
    }

    const failed = at(picture.failures, key)
    const count = planned.once ? Math.min(failed.length, want.failures) : want.failures
    if (holder === undefined && failed.length !== count) {
      wrong.push(`${name} has ${failed.length} failures on record, not ${count}: ${failed.map((one) => one.kind)}`)
    }
  }

  for (const key of picture.early) wrong.push(`${print(key)} was persisted while its kind was paused`)
  const rows = new Set(picture.domain.map((row) => String(row.id)))
  for (const id of picture.events) if (!rows.has(id)) wrong.push(`an event tells of row ${id}, which is not there`)
  const isTold = picture.isCalm &&
    !picture.calls.some(({ chunks }) => chunks.some(({ note }) => note?.fate === "kills"))
  const created = picture.ledger.flatMap(({ objects }) => objects.map((object) => object.id))
  if (isTold && picture.events.length < created.length) wrong.push("an event did not come, and nobody died")
  if (new Set(picture.events).size !== picture.events.length) wrong.push("an event came twice")
  const first = [...new Set(picture.told)]
  const next = created.findIndex((id, index) => first[index] !== id)
  if (next >= 0) {
    wrong.push(`the subscriber was told of ${first[next] ?? "nothing"} where ${created[next]} stands in the ledger`)
  }
  if (first.length > created.length) wrong.push("the subscriber was told of what was never created")
  const strangers = picture.ledger.length - chunks.filter(({ key }) => at(picture.ledger, key).length > 0).length
  if (strangers > 0) wrong.push(`the ledger has ${strangers} lines too many`)
  for (const { call } of picture.calls) {
    if (!picture.recorded.includes(call.callId)) wrong.push(`${call.callId} is not recorded`)
  }
  return wrong
}
