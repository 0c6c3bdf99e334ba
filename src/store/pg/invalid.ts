/**
 * Lists calls whose answer did not fit, from the head of their index.
 */
import { InvalidCall, type InvalidRequest } from "../../Inspector.ts"
import { iso, readRows } from "./json.ts"
import type { Tables } from "./tables.ts"

/** The latest first. */
export const invalid = ({ attempt, call, sql }: Tables, { limit, namespace }: InvalidRequest) =>
  readRows(InvalidCall)(sql<{ row: unknown }>`
    select pg_catalog.json_build_object(
      'callId', c.call_id, 'namespace', c.namespace, 'service', c.service, 'error', coalesce(c.error, ''),
      'finishedAt', ${sql.literal(iso("coalesce(c.finished_at, c.recorded_at)"))},
      'attempts', a.attempts, 'kept', a.kept
    ) as row
    from (
      select * from ${call}
      where status = 'invalid' and erasure is null and ${
    namespace === undefined ? sql`true` : sql`namespace = ${namespace}`
  }
      order by finished_at desc, call_id desc limit ${limit}
    ) c
    cross join lateral (
      select pg_catalog.count(*)::int as attempts, coalesce(pg_catalog.bool_or(text is not null), false) as kept
      from ${attempt} where call_id = c.call_id
    ) a
    order by c.finished_at desc, c.call_id desc`)
