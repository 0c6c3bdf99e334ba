/**
 * The limit: everything a batch needs is done by one statement inside the server, which no worker with handlers in
 * another process can do. It has a lease like the others: a claim that commits without waiting for the disk, then the
 * statement.
 */
import { Pool } from "pg"
import type { Call } from "../work.ts"
import type { System } from "./system.ts"

/** A queue as narrow as can be, calls and ledger beside it. */
export const limitTables = `
  create table if not exists limit_call (
    call_id text collate "C" primary key,
    payload jsonb not null
  );
  create table if not exists limit_queue (
    seq bigint generated always as identity primary key,
    call_id text collate "C" not null,
    due_at timestamptz not null default now(),
    lease_token uuid,
    lease_until timestamptz
  ) with (fillfactor = 50);
  create index if not exists limit_queue_due on limit_queue (due_at, seq);
  create table if not exists limit_ledger (
    call_id text collate "C" not null,
    schema_identity text collate "C" not null,
    handler text not null,
    object_id bigint not null,
    persisted_at timestamptz not null default now(),
    primary key (call_id, schema_identity)
  )`

/** Claims with a lease, and does not wait for the disk. */
export const limitClaim = `
  with due as (
    select seq from limit_queue
    where due_at <= now() and (lease_until is null or lease_until < now())
    order by due_at, seq limit $1 for update skip locked
  ), nosync as (
    select set_config('synchronous_commit', 'off', true)
  )
  update limit_queue q set lease_token = $2, lease_until = now() + interval '1 minute'
  from due, nosync where q.seq = due.seq
  returning q.seq`

// the domain row's id is drawn first, so that the ledger can name it
const persistOne = `
  with gone as (
    delete from limit_queue where seq = any($1::bigint[]) and lease_token = $2 returning call_id
  ), row as materialized (
    select c.call_id, c.payload, nextval(pg_get_serial_sequence('bench.message', 'id')) as id
    from gone join limit_call c using (call_id)
  ), made as (
    insert into bench.message (id, call_id, role, content, metadata) overriding system value
    select id, call_id, payload ->> 'role', payload ->> 'content', payload -> 'metadata' from row
  ), kept as (
    insert into limit_ledger (call_id, schema_identity, handler, object_id)
    select call_id, 'schemas.chatlab.standardized_patient.patient-reply', 'chatlab/patient-reply', id from row
    returning 1
  )
  select count(*)::int as kept from kept`

/** Records calls, one statement for all of them. */
export const limitFill = (calls: ReadonlyArray<Pick<Call, "callId"> & { readonly payload: object }>) => ({
  text: `
    with given as (
      select * from unnest($1::text[], $2::jsonb[]) with ordinality as g(call_id, payload, n)
    ), recorded as (
      insert into limit_call (call_id, payload) select call_id, payload from given
    )
    insert into limit_queue (call_id) select call_id from given order by n`,
  values: [calls.map((call) => call.callId), calls.map((call) => JSON.stringify(call.payload))]
})

/** A limit, whose last statement persists what a claim has leased. `answer` is what is recorded of a call. */
export const limitOf =
  (persist: string, answer: (call: Call) => object = ({ payload }) => payload): System["open"] =>
  async (url, { batch = 1000, inFlight = 2 }) => {
    const pool = new Pool({ connectionString: url, max: inFlight })
    await pool.query(limitTables)
    return {
      fill: async (calls) => {
        await pool.query(limitFill(calls.map((call) => ({ callId: call.callId, payload: answer(call) }))))
      },
      drain: async (count) => {
        let done = 0
        const lane = async () => {
          const client = await pool.connect()
          while (done < count) {
            const token = crypto.randomUUID()
            const { rows } = await client.query<{ seq: string }>({
              name: "claim",
              text: limitClaim,
              values: [batch, token]
            })
            if (rows.length === 0) break
            const seqs = rows.map((row) => row.seq)
            const kept = await client.query<{ kept: number }>({ name: "persist", text: persist, values: [seqs, token] })
            done += kept.rows[0]?.kept ?? 0
          }
          client.release()
        }
        await Promise.all(Array.from({ length: inFlight }, lane))
        if (done !== count) throw new Error(`${done} of ${count} were drained`)
      },
      close: () => pool.end()
    }
  }

/** The limit. */
export const limit: System = {
  about: "one statement a batch inside the server, leased",
  open: limitOf(persistOne)
}
