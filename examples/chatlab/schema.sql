-- The chat laboratory's own tables. Every statement may be run again.

create schema if not exists chatlab;

create table if not exists chatlab.simulation (
  id text primary key,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists chatlab.message (
  id bigint generated always as identity primary key,
  simulation_id text not null references chatlab.simulation,
  "order" integer not null,
  role text not null,
  content text not null,
  is_from_ai boolean not null default true,
  image_requested boolean not null default false,
  call_id text not null,
  created_at timestamptz not null default now(),
  unique (simulation_id, "order")
);

create index if not exists message_image_requested on chatlab.message (id) where image_requested;

create table if not exists chatlab.simulation_metadata (
  id bigint generated always as identity primary key,
  simulation_id text not null references chatlab.simulation,
  key text not null,
  value text not null,
  call_id text not null,
  created_at timestamptz not null default now(),
  unique (simulation_id, key)
);

create table if not exists chatlab.media (
  id bigint generated always as identity primary key,
  message_id bigint not null unique references chatlab.message,
  kind text not null,
  created_at timestamptz not null default now()
);

-- These two are written by a declared handler: assessment.ts.

create table if not exists chatlab.assessment (
  id bigint generated always as identity primary key,
  simulation_id text not null,
  grade smallint not null check (grade between 1 and 6),
  call_id text not null,
  assessed_at timestamptz not null
);

create table if not exists chatlab.remark (
  id bigint generated always as identity primary key,
  assessment_id bigint not null references chatlab.assessment,
  place integer not null,
  about text not null,
  remark text not null
);
