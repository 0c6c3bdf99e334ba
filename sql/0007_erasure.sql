-- Erasure: what is recorded of a subject is forgotten, and what was forgotten, by whom and why, is on record.
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
