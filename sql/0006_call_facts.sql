-- What calls say of themselves: facts beside the call, the answers that its runs were given, and what was used, rolled up by
-- day.
--
-- Locks: service_call for a moment, to note a column and to change a constraint; what is there is not looked at, for it satisfies
-- the narrower one. The index is built concurrently. The other tables are new.
--
-- While programs of the version before this one are still running: they record and drain as before, without facts. A call that
-- is `invalid` they take for one that runs elsewhere, until a program of this version runs it again; their `sluice show` cannot
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
