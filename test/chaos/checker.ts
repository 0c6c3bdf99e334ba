/**
 * What must be true in the end, asked of the tables in SQL. Shares no code with the drain.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"

/** What was found: numbers to print, and whatever is wrong. */
export interface Verdict {
  readonly chunks: number
  readonly persisted: number
  readonly dead: number
  readonly parked: number
  readonly duplicates: number
  readonly lost: number
  readonly wrong: ReadonlyArray<string>
}

/**
 * A note that hangs or is slow sits in its worker for seconds, alone once a worker died under it, and workers are killed
 * all the time: to be taken for one that kills is the system's right. It is then dead, and everything else holds for it as
 * for the dead.
 */
const unlucky = `(e.fate in ('hangs', 'slow') and exists (
  select from sluice.dead_letter where call_id = e.call_id and part = e.part and reason = 'crashing'))`

const ends = "e.fate in ('creates', 'slow', 'fails', 'throws', 'hangs', 'memo', 'memo fails', 'declared')"

/** Each question gives back what is wrong, a line each. `made` has the rows of all handlers. */
const questions: Readonly<Record<string, string>> = {
  "was not recorded": `
    select e.call_id from expected e left join sluice.service_call c using (call_id) where c.call_id is null`,
  "was recorded by nobody": `
    select c.call_id from sluice.service_call c left join expected e using (call_id) where e.call_id is null`,
  "has not exactly one end": `
    select e.call_id || ' ' || e.part || ' has ' || count(t.call_id) from expected e left join (
      select call_id, part from sluice.persisted_chunk
      union all select call_id, part from sluice.dead_letter
      union all select call_id, part from sluice.chunk_queue
    ) t using (call_id, part) group by e.call_id, e.part having count(t.call_id) <> 1`,
  "should be persisted": `
    select e.call_id || ' (' || e.fate || '): ' || coalesce((
      select d.reason || ' after ' || d.crashes || ' crashes: ' || d.message
      from sluice.dead_letter d where d.call_id = e.call_id and d.part = e.part), 'not dead')
    from expected e left join sluice.persisted_chunk p using (call_id, part)
    where ${ends} and p.call_id is null and not ${unlucky}`,
  "should be dead for its reason": `
    select e.call_id || ' (' || e.fate || '): ' || coalesce(d.reason, 'not dead')
    from expected e left join sluice.dead_letter d using (call_id, part)
    where e.fate in ('exhausts', 'rejects', 'kills', 'undecodable', 'refused', 'lacks its ward')
      and d.reason is distinct from case e.fate
        when 'exhausts' then 'exhausted' when 'refused' then 'exhausted' when 'rejects' then 'rejected'
        when 'lacks its ward' then 'rejected' when 'kills' then 'crashing' else 'undecodable' end`,
  "is dead with another's message": `
    select d.call_id || ': ' || d.message from expected e join sluice.dead_letter d using (call_id, part)
    where e.fate = 'refused' and d.message not like '%entry_text_check%'
      or e.fate = 'lacks its ward' and d.message not like '%ward%'`,
  "should be parked": `
    select e.call_id from expected e left join sluice.chunk_queue q using (call_id, part)
    where e.fate = 'unserved' and q.state is distinct from 'parked'`,
  "did not write its rows once": `
    select e.call_id || ' ' || e.part || ' has ' || count(n.id) || ' rows'
    from expected e left join made n using (call_id, part)
    group by e.call_id, e.part, e.rows, e.fate
    having count(n.id) <> case when not ${unlucky} and ${ends} then e.rows else 0 end`,
  "does not have the rows that its answer says": `
    select call_id || ' ' || part || ': ' || text || ' is row ' || n from (
      select *, row_number() over (partition by call_id, part order by id) as n from entry
    ) e where place <> n or text <> n::text`,
  "does not count its notes": `
    select b.name || ' counts ' || b.notes || ' notes, and has ' || count(n.id)
    from bed b left join note n on n.ordering_key = b.name group by b.name, b.notes having count(n.id) <> b.notes`,
  "is a row of nobody's": `
    select n.id::text from made n left join expected e using (call_id, part) where e.call_id is null`,
  "is named otherwise by the ledger": `
    select p.call_id from sluice.persisted_chunk p
    where (select coalesce(array_agg(o ->> 'id' order by (o ->> 'id')::bigint), '{}') from jsonb_array_elements(p.objects) o)
      is distinct from (
        select coalesce(array_agg(n.id::text order by n.id), '{}') from made n where n.call_id = p.call_id and n.part = p.part
      )`,
  "stands out of order": `
    select n.call_id from (
      select call_id, place, max(place) over (partition by e.ordering_key order by n.id) as highest
      from made n join expected e using (call_id, part) where e.ordering_key is not null
    ) n where n.place < n.highest`,
  "was charged what it did not do": `
    select e.call_id || ' (' || e.fate || '): ' || count(f.id) || ' failures, not ' || e.failures
      || coalesce(': ' || string_agg(f.kind || ' ' || left(f.message, 200), ' | '), '')
    from expected e left join sluice.chunk_failure f
      on f.call_id = e.call_id and f.part = e.part and f.kind <> 'crashing'
    group by e.call_id, e.part, e.fate, e.failures having count(f.id) <> e.failures and not ${unlucky}`,
  "was created and not told": `
    select n.id::text from made n left join heard h on h.note_id = n.id where h.note_id is null`,
  "was told and never created": `
    select h.note_id::text from heard h left join made n on h.note_id = n.id where n.id is null`
}

/** What handlers and clocks have done, as it shows in the tables. */
const traces: Readonly<Record<string, string>> = {
  "handler failed": `select count(*)::int as count from sluice.chunk_failure where kind = 'failed'`,
  "handler threw": `select count(*)::int as count from sluice.chunk_failure where kind = 'defect'`,
  "handler hung": `select count(*)::int as count from sluice.chunk_failure where kind = 'timeout'`,
  "handler outlived its lease": `
    select count(*)::int as count from expected e join sluice.persisted_chunk p using (call_id, part) where e.fate = 'slow'`,
  "handler killed its process": `select coalesce(sum(crashes), 0)::int as count from sluice.dead_letter
    join expected e using (call_id, part) where e.fate = 'kills'`,
  "note written by a clock an hour ahead": `
    select count(*)::int as count from note where written_at > at + interval '50 minutes'`,
  "note written by a clock an hour behind": `
    select count(*)::int as count from note where written_at < at - interval '50 minutes'`,
  "answer persisted inside the server": `
    select count(distinct (call_id, part))::int as count from entry where made = 'inside'`,
  "answer recorded and persisted by one statement": `
    select count(distinct (call_id, part))::int as count from entry where made = 'at once'`,
  "answer persisted by its declaration, claimed": `
    select count(distinct (call_id, part))::int as count from entry where made = 'claimed'`,
  "row refused": `
    select count(*)::int as count from sluice.chunk_failure f join expected e using (call_id, part) where e.fate = 'refused'`,
  "call recorded in one statement with others": `
    select coalesce(sum(count), 0)::int as count from (
      select count(*) from sluice.service_call c join expected e on e.call_id = c.call_id and e.part = '' and e.way = 'together'
      group by c.xmin having count(*) > 1
    ) shared`,
  "chunk recorded and persisted in one commit": `
    select count(*)::int as count from sluice.service_call c join sluice.persisted_chunk p using (call_id)
    where c.xmin = p.xmin`
}

/** Counts what the handlers did and how wrong the clocks were. */
export const happened = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const counts: Record<string, number> = {}
  for (const [what, question] of Object.entries(traces)) {
    const [row] = yield* sql.unsafe<{ count: number }>(question)
    counts[what] = row?.count ?? 0
  }
  return counts
})

/** Asks everything. */
export const check = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  // whose process died before it heard whether the call is recorded; of the others, each is
  yield* sql`delete from expected where state = 'unknown' and call_id not in (select call_id from sluice.service_call)`
  const wrong: Array<string> = []
  for (const [what, question] of Object.entries(questions)) {
    const rows = yield* sql.unsafe<Record<string, string>>(question)
    for (const row of rows.slice(0, 5)) wrong.push(`${Object.values(row)[0]} ${what}`)
    if (rows.length > 5) wrong.push(`… and ${rows.length - 5} more: ${what}`)
  }
  const [counts] = yield* sql<Omit<Verdict, "wrong">>`
    select
      (select count(*)::int from expected) as chunks,
      (select count(*)::int from sluice.persisted_chunk) as persisted,
      (select count(*)::int from sluice.dead_letter) as dead,
      (select count(*)::int from sluice.chunk_queue where state = 'parked') as parked,
      (select coalesce(sum(n.count - e.rows), 0)::int
        from (select call_id, part, count(*) from made group by call_id, part) n join expected e using (call_id, part)
        where n.count > e.rows) as duplicates,
      (select count(*)::int from expected e where not exists (
        select from sluice.persisted_chunk where call_id = e.call_id and part = e.part
        union all select from sluice.dead_letter where call_id = e.call_id and part = e.part
        union all select from sluice.chunk_queue where call_id = e.call_id and part = e.part)) as lost`
  if (counts === undefined) return yield* Effect.die("no counts")
  return { ...counts, wrong } satisfies Verdict
})
