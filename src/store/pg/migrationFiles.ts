// Made from sql/*.sql by `npm run generate`. Do not edit.

/** The migrations' SQL, by the names of its files. */
export const migrationFiles: Readonly<Record<string, string>> = {
  "0001_tables.sql":
    `-- Sluice's tables. The schema's name is \`sluice\` here; the migrator puts the configured one in its place.
-- Every statement ends with a semicolon at the end of a line, and can be run again without harm.
-- Texts that are keys are collated "C": they are compared byte by byte, never sorted for people.

create schema if not exists sluice;

-- The order of recording. Never cached, so that of two calls recorded one after the other the first has the lower number.
create sequence if not exists sluice.chunk_seq as bigint cache 1;

-- One narrow row for each outstanding chunk; deleted when it is persisted or buried, so that the table is as large as the
-- backlog, not as history. No lease column is in an index and pages are left more than half empty, for a leased row is longer than
-- one that is not (of 100 claims 100 are then in place; with a fillfactor of 50 it were 89): a claim is then an update in
-- place (HOT), which writes no index and leaves nothing for vacuum to do in them.
-- The first of the tables: an autovacuum worker takes those of a database in this order. Behind service_call, which takes it a
-- minute, the queue grew to 1.05 GB between two vacuums at 12,000 chunks a second; before it, to 0.68.
create table if not exists sluice.chunk_queue (
  seq             bigint not null default nextval('sluice.chunk_seq') primary key,
  lease_token     uuid,
  lease_until     timestamptz,
  lease_alone     boolean not null default false,
  leased_by       text,
  -- failed attempts; workers that died holding it; of those, workers that had nothing else under way
  attempts        integer not null default 0,
  crashes         integer not null default 0,
  lone_crashes    integer not null default 0,
  -- ready: claimable, or leased; scheduled: not before due_at; waiting: behind an older chunk of its key; parked: nobody
  -- may or can serve it now
  state           text not null default 'ready' check (state in ('ready', 'scheduled', 'waiting', 'parked')),
  parked_for      text check (parked_for in ('no-handler', 'paused')),
  priority        integer not null default 0,
  due_at          timestamptz not null default now(),
  -- what ready chunks are claimed by: due_at less a minute for each step of priority. A head start, not a class of its
  -- own, so that a flood of urgent chunks cannot starve the others.
  rank            timestamptz not null default now(),
  schema_version  integer not null,
  -- its place among service_call.outputs, from 0
  position        integer not null default 0,
  -- size of what a claim hands out for it, output, context and input: claims are bounded by bytes as well
  bytes           integer not null default 0,
  recorded_at     timestamptz not null default now(),
  namespace       text collate "C" not null,
  schema_identity text collate "C" not null,
  call_id         text collate "C" not null,
  part            text collate "C" not null default '',
  ordering_key    text collate "C",
  -- workers look among the parked by the reason
  check (state <> 'parked' or parked_for is not null),
  -- what is longer fits into no index, could be neither persisted nor buried, and would stop the drain
  check (
    octet_length(call_id) <= 256 and octet_length(namespace) <= 512 and octet_length(schema_identity) <= 1024
    and octet_length(part) <= 512 and octet_length(ordering_key) <= 1024
  )
) with (
  fillfactor = 45,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_limit = 2000,
  autovacuum_analyze_scale_factor = 0.1
);

create index if not exists chunk_queue_ready on sluice.chunk_queue (rank, seq) where state = 'ready';
create index if not exists chunk_queue_scheduled on sluice.chunk_queue (due_at, seq) where state = 'scheduled';
-- With the reason, so that those without a handler are not read, at every beat, for the paused among them.
create index if not exists chunk_queue_parked on sluice.chunk_queue (namespace, schema_identity, parked_for)
  where state = 'parked';
create index if not exists chunk_queue_waiting on sluice.chunk_queue (ordering_key, seq) where state = 'waiting';
create index if not exists chunk_queue_key on sluice.chunk_queue (ordering_key, seq) where ordering_key is not null;
create index if not exists chunk_queue_call on sluice.chunk_queue (call_id);

-- A call and its result: wide, written once or twice, and never touched by claiming, so that payloads are not rewritten.
-- What was recorded is \`json\`, not \`jsonb\`: it is kept and handed out as it came, which is what it is for. Taking it apart
-- and putting it together again cost a tenth of the server's time, and made numbers longer than they came.
create table if not exists sluice.service_call (
  call_id        text collate "C" primary key check (call_id <> '' and char_length(call_id) <= 64),
  namespace      text collate "C" not null,
  service        text collate "C" not null,
  correlation_id text not null,
  status         text not null check (status in ('running', 'succeeded', 'failed')),
  context        json not null default '{}',
  input          json,
  details        json,
  trace          json,
  -- as recorded, each { schema, version, part?, data }; null while running, after a failure, and once pruned. A list of JSON
  -- and not a JSON list: one of them is found without looking into any.
  outputs        json[],
  error          text,
  ordering_key   text collate "C",
  priority       integer not null default 0,
  not_before     timestamptz,
  -- who runs it, and until when that is to be believed
  run_token      uuid,
  run_until      timestamptz,
  started_at     timestamptz,
  finished_at    timestamptz,
  recorded_at    timestamptz not null default now()
);

-- For pruning payloads by age.
create index if not exists service_call_age on sluice.service_call (recorded_at) where outputs is not null;

-- The ledger: one row for every chunk ever persisted, append-only. Its key is what makes effects exactly-once.
create table if not exists sluice.persisted_chunk (
  call_id         text collate "C" not null,
  schema_identity text collate "C" not null,
  part            text collate "C" not null default '',
  namespace       text collate "C" not null,
  schema_version  integer not null,
  handler         text not null,
  handler_version integer not null,
  -- [{ type, id }]: the rows of the application it became; empty when there was nothing to create
  objects         jsonb not null default '[]',
  persisted_at    timestamptz not null default now(),
  -- Which transaction wrote it, and its place there. Readers follow (xact, seq) up to the oldest transaction still
  -- running: what became visible later can then not stand before what was read already.
  xact            xid8 not null default pg_current_xact_id(),
  seq             bigint not null default nextval('sluice.chunk_seq'),
  primary key (call_id, schema_identity, part)
);

create index if not exists persisted_chunk_order on sluice.persisted_chunk (xact, seq);

-- Buried chunks: not tried again by themselves. Redriving moves them back to the queue, at their old place.
create table if not exists sluice.dead_letter (
  call_id         text collate "C" not null,
  schema_identity text collate "C" not null,
  part            text collate "C" not null default '',
  seq             bigint not null,
  namespace       text collate "C" not null,
  schema_version  integer not null,
  position        integer not null,
  bytes           integer not null,
  priority        integer not null,
  ordering_key    text collate "C",
  reason          text not null check (reason in ('exhausted', 'rejected', 'undecodable', 'unknown-version', 'crashing')),
  handler         text not null,
  message         text not null,
  attempts        integer not null,
  crashes         integer not null,
  recorded_at     timestamptz not null,
  died_at         timestamptz not null default now(),
  discarded_at    timestamptz,
  discard_reason  text,
  primary key (call_id, schema_identity, part)
);

-- For redriving in the order of recording, portion by portion.
create index if not exists dead_letter_seq on sluice.dead_letter (seq);
create index if not exists dead_letter_age on sluice.dead_letter (died_at);
-- For counting those that wait for a person, however many were discarded.
create index if not exists dead_letter_open on sluice.dead_letter (died_at) where discarded_at is null;
create index if not exists dead_letter_kind on sluice.dead_letter (namespace, schema_identity);
create index if not exists dead_letter_key on sluice.dead_letter (ordering_key)
  where ordering_key is not null and discarded_at is null;

-- What went wrong with each chunk, attempt by attempt; kept over redrives.
create table if not exists sluice.chunk_failure (
  id              bigint generated always as identity primary key,
  call_id         text collate "C" not null,
  schema_identity text collate "C" not null,
  part            text collate "C" not null default '',
  at              timestamptz not null default now(),
  attempt         integer not null,
  handler         text not null,
  kind            text not null,
  message         text not null
);

create index if not exists chunk_failure_chunk on sluice.chunk_failure (call_id, schema_identity, part);
create index if not exists chunk_failure_age on sluice.chunk_failure (at);

-- Workers, as last seen, and what each can handle: so that a worker leaves alone what only others serve.
create table if not exists sluice.worker (
  id         text primary key,
  serves     jsonb not null,
  started_at timestamptz not null default now(),
  beat_at    timestamptz not null default now()
);

-- What nobody may drain now. '*' stands for all.
create table if not exists sluice.pause (
  namespace       text collate "C" not null default '*',
  schema_identity text collate "C" not null default '*',
  reason          text not null default '',
  paused_at       timestamptz not null default now(),
  primary key (namespace, schema_identity)
);

-- Durable subscribers of what was created, each with its own place in the ledger.
create table if not exists sluice.subscription (
  name        text primary key,
  xact        xid8 not null default '0',
  seq         bigint not null default 0,
  lease_token uuid,
  lease_until timestamptz,
  attempts    integer not null default 0,
  due_at      timestamptz not null default now(),
  last_error  text,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now()
);
`,
  "0002_keys_within_a_namespace.sql":
    `-- Ordering keys count within a namespace: the indexes that find the chunks and letters of a key hold the namespace as well.
-- And a chunk remembers the leases that ran out under it, so that a worker which was only cut off can take back that it
-- was counted as a crash.
--
-- Locks: adding the column needs the queue for a moment, and rewrites nothing. The indexes are built concurrently: recording
-- and draining go on, whatever the size of the tables.
--
-- While workers of the version before this one are still running: they take a key to be one for all namespaces. What they
-- put aside behind a chunk of another namespace nothing would wake; the beat of a new worker releases it, portion by portion,
-- and \`sluice mend\` releases all of it at once. An old worker finds a key's chunks by the same indexes, a little slower. A
-- crash that an old worker counted is not taken back.

-- The tokens of leases that ran out under it and were counted as crashes, and whether each one's worker had nothing else under
-- way: { token: alone }.
alter table sluice.chunk_queue add column if not exists lost_leases jsonb;

-- The key first, though the namespace is the wider one: so old workers, which ask by the key alone, use them too.
create index concurrently if not exists chunk_queue_namespace_key on sluice.chunk_queue (ordering_key, namespace, seq)
  where ordering_key is not null;
create index concurrently if not exists chunk_queue_namespace_waiting on sluice.chunk_queue (ordering_key, namespace, seq)
  where state = 'waiting';
create index concurrently if not exists dead_letter_namespace_key on sluice.dead_letter (ordering_key, namespace, seq)
  where ordering_key is not null and discarded_at is null;

-- What they replace.
drop index concurrently if exists sluice.chunk_queue_key;
drop index concurrently if exists sluice.chunk_queue_waiting;
drop index concurrently if exists sluice.dead_letter_key;
`,
  "0003_subscription_log.sql":
    `-- The event log: which cluster's transaction numbers the ledger and the subscriptions go by, and what a subscription that
-- fails remembers of its search.
-- Locks: the new columns take an exclusive lock on sluice.subscription, for as long as it takes to note them in the
-- catalog: nothing is rewritten. Recording and draining do not touch that table.
-- Old and new subscribers may run side by side. Old ones neither search by halves nor look at sluice.subscription_log: once the
-- numbers have been rebased (see below) they read nothing any more and say so, and skip nothing.

-- One row. A line's number in the ledger (persisted_chunk.xact) is \`base\` plus the id of the transaction that wrote it; base
-- is also in the default of that column. It is 0 until the tables come to another cluster, whose ids begin elsewhere: then
-- it is raised above all numbers that came along, so that what is written from then on stands behind them.
-- \`witness\` is the transaction that wrote this row last. While it is the row's own xmin, the row was written by this
-- cluster. A dump or logical replication brings the column and not the xmin; a file copy, pg_upgrade, a standby or a
-- recovery to a point in time brings both, and there the ids go on as well. 0: not looked at yet.
-- Its name comes after that of persisted_chunk, in whose order a dump restores them: so what came along was written here before
-- this row was, and can be told from what this cluster persists.
create table if not exists sluice.subscription_log (
  only_row     boolean primary key default true check (only_row),
  base         bigint not null default 0,
  witness      xid8 not null default pg_current_xact_id(),
  witnessed_at timestamptz not null default now(),
  rebased_at   timestamptz
);

-- Where lines were persisted before this migration nobody knows whether the tables have been moved already.
insert into sluice.subscription_log (witness)
  select case when exists (select from sluice.persisted_chunk) then '0' else pg_current_xact_id() end
  on conflict do nothing;

-- suspects: so many entries from the place on were handed over and are not settled, because their handler failed or its
-- reader died. Half of them are handed over next. leased_by: who reads, for people.
alter table sluice.subscription add column if not exists suspects integer not null default 0;
alter table sluice.subscription add column if not exists leased_by text;

-- What people let a subscription pass over, and why.
create table if not exists sluice.subscription_skip (
  id              bigint generated always as identity primary key,
  name            text not null,
  call_id         text collate "C" not null,
  schema_identity text collate "C" not null,
  part            text collate "C" not null,
  last_error      text,
  reason          text not null,
  skipped_at      timestamptz not null default now()
);

create index if not exists subscription_skip_name on sluice.subscription_skip (name);
`,
  "0004_shared_bytes.sql":
    `-- What the chunks of a call share, its context and input, is handed out once a claim and counted once: so a claim must know
-- how much of a chunk's bytes that is.
--
-- Locks: the queue for a moment; nothing is rewritten. Chunks recorded before this, or by a program of the version before
-- this one, say 0 and count as they did: with all that is shared, each. Programs of that version count all of them so.

alter table sluice.chunk_queue add column if not exists shared_bytes integer not null default 0;
`,
  "0005_newer_version.sql":
    `-- A chunk recorded at a version newer than its handler reads is parked, with a reason of its own, and taken up by a worker that
-- reads it. Workers look among the parked by the version as well, so that what nobody reads yet is not read at every beat.
--
-- Locks: the queue for a moment, to change a constraint; what is there is not looked at, for it satisfies the narrower one. The
-- index is built concurrently: recording and draining go on, whatever the size of the tables.
--
-- While workers of the version before this one are still running: they take up what is parked for its version and bury it as
-- \`unknown-version\`, as they did before; redrive that when they are gone.

alter table sluice.chunk_queue
  drop constraint if exists chunk_queue_parked_for_check,
  add constraint chunk_queue_parked_for_check check (parked_for in ('no-handler', 'newer-version', 'paused')) not valid;

create index concurrently if not exists chunk_queue_parked_version
  on sluice.chunk_queue (namespace, schema_identity, parked_for, schema_version) where state = 'parked';
-- What it replaces.
drop index concurrently if exists sluice.chunk_queue_parked;
`,
  "0006_call_facts.sql":
    `-- What calls say of themselves: facts beside the call, the answers that its runs were given, and what was used, rolled up by
-- day.
--
-- Locks: service_call for a moment, to note a column and to change a constraint; what is there is not looked at, for it satisfies
-- the narrower one. The index is built concurrently. The other tables are new.
--
-- While programs of the version before this one are still running: they record and drain as before, without facts. A call that
-- is \`invalid\` they take for one that runs elsewhere, until a program of this version runs it again; their \`sluice show\` cannot
-- read it.

-- What the call says of itself (CallFacts); stays when payloads are pruned.
alter table sluice.service_call add column if not exists facts json;

-- invalid: there is an answer, and it does not fit.
alter table sluice.service_call
  drop constraint if exists service_call_status_check,
  add constraint service_call_status_check check (status in ('running', 'succeeded', 'failed', 'invalid')) not valid;

-- For listing what is invalid, the latest first.
create index concurrently if not exists service_call_invalid on sluice.service_call (finished_at, call_id)
  where status = 'invalid';

-- Each answer that a run was given and that was paid for. No number from a sequence as key: after a move of the tables one that
-- is behind would fail the recording of an answer.
create table if not exists sluice.call_attempt (
  id          uuid not null default gen_random_uuid() primary key,
  call_id     text collate "C" not null,
  -- its place among the attempts of its run, from 0
  place       integer not null,
  outcome     text not null check (outcome in ('succeeded', 'invalid', 'failed')),
  -- as it came; null when there is none, and once pruned
  text        text,
  -- how many characters came
  length      integer not null default 0,
  facts       json,
  error       text,
  answered_at timestamptz not null default now()
);

create index if not exists call_attempt_call on sluice.call_attempt (call_id, answered_at, place);
-- For pruning texts by age.
create index if not exists call_attempt_age on sluice.call_attempt (answered_at, id) where text is not null;

-- What calls used, one row or a few for each: only ever inserted, so that no recording waits for another. Folded into
-- usage_total, and deleted, in one statement: each counts once.
create table if not exists sluice.usage_entry (
  id                  uuid not null default gen_random_uuid() primary key,
  -- the day on which the call finished, in UTC
  day                 date not null,
  namespace           text collate "C" not null,
  -- the schemas of its outputs
  schemas             text collate "C" not null,
  provider            text collate "C" not null,
  model               text collate "C" not null,
  currency            text collate "C" not null,
  calls               integer not null,
  failed              integer not null,
  invalid             integer not null,
  attempts            bigint not null,
  input_tokens        bigint not null,
  output_tokens       bigint not null,
  cached_input_tokens bigint not null,
  reasoning_tokens    bigint not null,
  micros              bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Sums by day. Numeric: a sum of bigints may not fit into one. The key is a digest, for the texts together may be too long for
-- an index.
create table if not exists sluice.usage_total (
  key                 uuid not null primary key,
  day                 date not null,
  namespace           text collate "C" not null,
  schemas             text collate "C" not null,
  provider            text collate "C" not null,
  model               text collate "C" not null,
  currency            text collate "C" not null,
  calls               numeric not null,
  failed              numeric not null,
  invalid             numeric not null,
  attempts            numeric not null,
  input_tokens        numeric not null,
  output_tokens       numeric not null,
  cached_input_tokens numeric not null,
  reasoning_tokens    numeric not null,
  micros              numeric not null
);

create index if not exists usage_total_day on sluice.usage_total (day);
`,
  "0007_erasure.sql":
    `-- Erasure: what is recorded of a subject is forgotten, and what was forgotten, by whom and why, is on record.
--
-- Locks: the calls for a moment, to add a column; nothing is rewritten.
--
-- Programs of the version before this one know nothing of erased calls: they would record and run again those that had not
-- succeeded. Upgrade all that record before the first erasure.

-- Which erasure took the call's content. The call stays, so that it is not recorded anew when it is delivered again.
alter table sluice.service_call add column if not exists erasure bigint;

-- One row for each erasure that found something. It tells how the subject was named and not its name, which is what was to be
-- forgotten. finished_at: null while it is under way, and for ever when it was cut off: what it left the next one finds.
create table if not exists sluice.erasure (
  id           bigint generated always as identity primary key,
  begun_at     timestamptz not null default now(),
  finished_at  timestamptz,
  erased_by    text not null,
  because      text not null,
  -- call, correlation, or context
  subject      text not null check (subject in ('call', 'correlation', 'context')),
  context_key  text,
  calls        bigint not null,
  -- chunks that were outstanding, and will never be persisted
  chunks       bigint not null,
  dead_letters bigint not null,
  failures     bigint not null
);
`,
  "0008_call_ends.sql":
    `-- The ends of calls: a call ends once, when every chunk of it is persisted or dead. Subscriptions to ends receive them.
--
-- Locks: none on existing tables.
--
-- While programs of the version before this one are still running: a call that one of them records has no end. If one of
-- them settles the last chunk of a call, a beat of a worker of this version writes the end.

-- The subscriptions to ends. Their places are in sluice.subscription. They have a table of their own, which is hardly ever
-- written, because each recording and each settlement checks whether there is one.
create table if not exists sluice.call_subscription (
  name text primary key
);

-- The open calls. The recording writes the row; the statement that deletes it writes the end, so a call has one end.
create table if not exists sluice.open_call (
  call_id text collate "C" primary key
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- The ends, as a log: see persisted_chunk for xact and seq.
create table if not exists sluice.call_end (
  call_id   text collate "C" primary key,
  -- how many chunks of the call are in the ledger, and how many are dead letters
  persisted integer not null,
  dead      integer not null,
  ended_at  timestamptz not null default now(),
  -- subscription_log.base plus the id of the transaction that wrote it
  xact      xid8 not null,
  seq       bigint not null default nextval('sluice.chunk_seq')
);

create index if not exists call_end_order on sluice.call_end (xact, seq);
`,
  "0009_ledger_totals.sql":
    `-- Totals and digests of the ledger, so that operators' questions do not read all of it: how many chunks of each kind were
-- persisted, and which call made a row of the application. Persisting a chunk writes nothing more: the beats of workers
-- count the new lines, in portions of 5,000.
--
-- Locks: none but on the new tables, which nobody uses yet.
--
-- While workers of the version before this one are still running: they persist as before, and their lines are counted. The
-- first beats count the lines that a ledger already has; until then the answers are right, and as slow as before.

-- How far the lines are counted: up to (xact, seq) in the order of the event log. No line can appear before that any more.
-- One row. \`base\` is that of subscription_log: if it has changed, or the place is ahead of this cluster's transactions, the
-- lines were renumbered or came from another cluster, and counting starts again. It does so without the row, too.
create table if not exists sluice.ledger_place (
  only_row boolean primary key default true check (only_row),
  base     bigint not null,
  xact     xid8 not null,
  seq      bigint not null
);

-- Lines up to that place, by kind.
create table if not exists sluice.ledger_total (
  namespace       text collate "C" not null,
  schema_identity text collate "C" not null,
  chunks          bigint not null,
  primary key (namespace, schema_identity)
);

-- The rows of the application that a portion of lines made: a hash of each id, by the function of hash indexes, which is the
-- same in all versions. Four bytes for each row; an index on the ledger would cost a twentieth of the time to persist.
create table if not exists sluice.ledger_digest (
  -- the place before the portion's first line
  xact xid8 not null,
  seq  bigint not null,
  ids  integer[] not null,
  primary key (xact, seq)
);

-- Hashes do not compress.
alter table sluice.ledger_digest alter column ids set storage external;
`,
  "0010_fingerprint.sql":
    `-- The fingerprint of the schema that encoded an answer. If that is the present schema of a declared handler, the server
-- persists the answer without handing it to a worker: see the store's inside.ts.
--
-- Locks: the queue for a moment; nothing is rewritten. Chunks recorded before this migration, or by a program of the version
-- before this one, have none and are handed out, as before.

alter table sluice.chunk_queue add column if not exists fingerprint integer;
`,
  "0011_inside.sql":
    `-- How many answers of its declared handlers each worker has persisted inside the server and by claims, and what the server
-- refuses lastingly: \`sluice status\`, \`sluice handlers\` and the doctor show it.
--
-- Locks: the workers' table for a moment; nothing is rewritten. Workers of the version before this one do not write it.

alter table sluice.worker add column if not exists inside jsonb not null default '[]';
`
}
