/**
 * What must be true after every schedule.
 */
import type { Client } from "pg"

/** What is wrong, by a statement that finds it. */
const wrongs: Readonly<Record<string, string>> = {
  "waits behind nothing": `
    select call_id from sluice.chunk_queue w where state = 'waiting' and not exists (
      select from sluice.chunk_queue o
      where o.namespace = w.namespace and o.ordering_key = w.ordering_key and o.seq < w.seq
    ) and not exists (
      select from sluice.dead_letter d
      where d.namespace = w.namespace and d.ordering_key = w.ordering_key and d.seq < w.seq and d.discarded_at is null
    )`,
  "lost": `
    select call_id from sluice.service_call c where status = 'succeeded' and erasure is null
      and not exists (select from sluice.chunk_queue q where q.call_id = c.call_id)
      and not exists (select from sluice.dead_letter d where d.call_id = c.call_id)
      and not exists (select from sluice.persisted_chunk p where p.call_id = c.call_id)`,
  "twice in the queue": "select call_id from sluice.chunk_queue group by 1 having count(*) > 1",
  "persisted twice": "select call_id from note group by 1 having count(*) > 1",
  "its row is there, its line in the ledger is not": `
    select call_id from note n where not exists (select from sluice.persisted_chunk p where p.call_id = n.call_id)`,
  "its line in the ledger is there, its row is not": `
    select call_id from sluice.persisted_chunk p where not exists (select from note n where n.call_id = p.call_id)`,
  "outstanding and dead": `
    select call_id from sluice.chunk_queue join sluice.dead_letter d using (call_id) where d.discarded_at is null`,
  "persisted, and its letter is open": `
    select call_id from sluice.persisted_chunk join sluice.dead_letter d using (call_id) where d.discarded_at is null`,
  "outstanding, and its payload is pruned": `
    select call_id from sluice.service_call c where outputs is null and status = 'succeeded' and (
      exists (select from sluice.chunk_queue q where q.call_id = c.call_id)
      or exists (select from sluice.dead_letter d where d.call_id = c.call_id and d.discarded_at is null)
    )`,
  "erased, and not gone": `
    select call_id from sluice.service_call c where erasure is not null and (
      outputs is not null or exists (select from sluice.chunk_queue q where q.call_id = c.call_id)
      or exists (select from sluice.dead_letter d where d.call_id = c.call_id)
      or exists (select from sluice.chunk_failure f where f.call_id = c.call_id)
    )`,
  "held, and not claimable": `
    select call_id from sluice.chunk_queue where lease_token is not null and state not in ('ready', 'waiting')`,
  // a call whose letter is moved back has ended before
  "its end says something else": `
    select call_id from sluice.call_end where persisted + dead <> 1
      and call_id in (select call_id from sluice.service_call where erasure is null)`,
  "ended, and still open": "select call_id from sluice.call_end join sluice.open_call using (call_id)",
  "used more than once": `
    select coalesce(max(currency), '') as call_id from (
      select currency, calls from sluice.usage_entry union all select currency, calls from sluice.usage_total
    ) used having sum(calls) > (select count(*) from sluice.call_attempt)`,
  "a crash too many or too few": "select call_id from sluice.chunk_queue where crashes < 0 or lone_crashes > crashes"
}

/** What is looked at once all is drained. */
const wrongsAtEnd: Readonly<Record<string, string>> = {
  ...wrongs,
  // behind a letter that is open it may stand for ever
  "never drained": `
    select call_id from sluice.chunk_queue w where not exists (
      select from sluice.dead_letter d
      where d.namespace = w.namespace and d.ordering_key = w.ordering_key and d.seq < w.seq and d.discarded_at is null
    )`,
  // what is recorded within the schedule (101 and above) may become visible in any order
  "overtaken": `
    select n.call_id from (select call_id, id, max(seq) over (order by id) as highest from (
      select call_id, id, seq from note join seqs using (call_id) where written_by = 'drain' and seq < 5
    ) drained) n join seqs using (call_id) where seq < highest`,
  "never told of": `
    select call_id from sluice.persisted_chunk p where objects <> '[]' and not exists (select from told t where t.call_id = p.call_id)
      and not exists (select from sluice.subscription_skip s where s.call_id = p.call_id)`,
  "never ended": `
    select call_id from sluice.open_call o where not exists (
      select from sluice.chunk_queue q where q.call_id = o.call_id
    )`,
  "never told of its end": `
    select call_id from sluice.call_end where not exists (select from told_end t where t.call_id = call_end.call_id)`
}

const found = async (db: Client, statements: Readonly<Record<string, string>>): Promise<ReadonlyArray<string>> => {
  // one round trip for all of them
  const parts = Object.entries(statements).map(([what, text]) =>
    `select '${what}' as what, string_agg(call_id, ' ' order by call_id) as calls from (${text}) wrong`
  )
  const { rows } = await db.query<{ what: string; calls: string | null }>({
    name: `wrongs ${parts.length}`,
    text: parts.join(" union all ")
  })
  return rows.flatMap(({ calls, what }) => calls === null ? [] : [`${what}: ${calls}`])
}

/** What is wrong now. */
export const lookNow = (db: Client) => found(db, wrongs)
/** What is wrong at the end. */
export const lookAtEnd = (db: Client) => found(db, wrongsAtEnd)
