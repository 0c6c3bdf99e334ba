/**
 * How each fault is done. A strike succeeds only once what it is for has really happened: a kill has killed, a lock was
 * held. One that came to nothing, because another fault was in its way, is tried again.
 */
import { Shutdown } from "effect-sluice"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { ChildProcess } from "node:child_process"
import type { Proxy } from "../faults/proxy.ts"
import { client } from "../support/client.ts"
import type { Cluster } from "../support/cluster.ts"
import { type Crew, isAlive } from "./crew.ts"
import type { Kind, Planned } from "./plan.ts"

/** The strike came to nothing. */
const missed = Effect.fail("missed")
const when = (happened: boolean) => happened ? Effect.void : missed

/** Ends with the process. */
const ended = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (!isAlive(child)) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
  })

/** Does what a fault of the plan says. */
export const strikes = (
  { cluster, crew, proxy, standby }: {
    readonly cluster: Cluster
    readonly standby: Cluster
    /** What the workers reach their server by. */
    readonly proxy: Proxy
    readonly crew: Crew
  }
) => {
  const query = <A, E>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>, maxConnections = 1) =>
    Effect.provide(
      Effect.flatMap(SqlClient.SqlClient, use),
      Layer.fresh(client(cluster.url(), { maxConnections })),
      { local: true }
    )
  // one server cannot crash twice at once; and locks that follow each other closely would be one too long for a handler
  const server = Semaphore.makeUnsafe(1)
  const rows = Semaphore.makeUnsafe(1)
  const address = Semaphore.makeUnsafe(1)

  const deeds: Readonly<Record<Kind, (fault: Planned) => Effect.Effect<void, unknown>>> = {
    "worker killed": ({ worker }) =>
      Effect.gen(function*() {
        const child = crew.at(worker)
        yield* when(isAlive(child) && child.kill("SIGKILL"))
        yield* ended(child)
        yield* when(child.signalCode === "SIGKILL")
      }),
    "worker told to stop": ({ worker }) =>
      Effect.gen(function*() {
        const child = crew.at(worker)
        yield* when(isAlive(child) && child.kill("SIGTERM"))
        yield* ended(child)
        // nobody killed it before it was done
        yield* when(child.exitCode !== null || child.signalCode === "SIGTERM")
      }),
    "worker told twice to stop": ({ millis, worker }) =>
      Effect.gen(function*() {
        const child = crew.at(worker)
        // one that has only begun hears nothing yet, and is killed by the first
        const beats = yield* query((sql) => sql`select from sluice.worker where id like ${`%/${child.pid}/%`}`)
        yield* when(beats.length > 0)
        yield* when(isAlive(child) && child.kill("SIGTERM"))
        yield* Effect.sleep(millis)
        yield* when(isAlive(child) && child.kill("SIGTERM"))
        yield* ended(child)
        // it was not done before the second came
        yield* when(child.exitCode === Shutdown.statuses.SIGTERM)
      }),
    "worker frozen beyond its lease": ({ millis, worker }) =>
      Effect.gen(function*() {
        const child = crew.at(worker)
        yield* when(isAlive(child) && child.kill("SIGSTOP"))
        yield* Effect.sleep(millis)
        yield* when(isAlive(child) && child.kill("SIGCONT"))
      }),
    "server crashed and restarted": () =>
      server.withPermits(1)(Effect.promise(async () => {
        await cluster.crash()
        await cluster.restart()
      })),
    "sessions terminated": ({ worker }) =>
      Effect.flatMap(
        query((sql) =>
          sql<{ done: boolean }>`
            select pg_terminate_backend(pid) as done from (
              select pid, row_number() over (order by backend_start) as place from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()
            ) where place % 2 = ${worker % 2}`
        ),
        (sessions) => when(sessions.some(({ done }) => done))
      ),
    "connections exhausted": ({ millis }) =>
      Effect.gen(function*() {
        // more than there are, held together: some are refused, and so is whoever else comes
        const refused = yield* Deferred.make<void>()
        const hold = query((sql) => sql`select pg_sleep(${millis / 1000})`).pipe(
          Effect.tapCause((cause) =>
            /too many clients|connection slots/.test(Cause.pretty(cause))
              ? Deferred.succeed(refused, undefined)
              : Effect.void
          )
        )
        yield* Effect.forEach(Array.from({ length: 60 }), () => Effect.ignoreCause(hold), {
          concurrency: "unbounded",
          discard: true
        })
        yield* when(yield* Deferred.isDone(refused))
      }),
    "snapshot held": ({ millis }) =>
      query((sql) =>
        sql.withTransaction(Effect.andThen(
          sql`select count(*), pg_current_xact_id() from note`,
          Effect.andThen(Effect.sleep(millis), sql`select 1`)
        ))
      ),
    "declared kinds paused": ({ millis }) =>
      query((sql) =>
        sql`insert into sluice.pause (namespace, schema_identity, reason)
          select 'clinic', 'schemas.clinic.ward.' || name, 'the tables are moved' from unnest(array['chart', 'entry']) name
          on conflict do nothing`
      ).pipe(
        Effect.andThen(Effect.sleep(millis)),
        Effect.ensuring(Effect.ignore(Effect.retry(
          query((sql) => sql`delete from sluice.pause`),
          Schedule.spaced("200 millis").pipe(Schedule.upTo({ duration: "60 seconds" }))
        )))
      ),
    "rows locked by somebody else": ({ millis, worker }) =>
      rows.withPermits(1)(query((sql) =>
        sql.withTransaction(Effect.gen(function*() {
          const beds = yield* sql`select from bed order by name offset ${worker} limit 3 for update`
          const chunks = yield* sql`
            select from sluice.chunk_queue order by seq limit 20 for update skip locked`
          yield* when(beds.length > 0 && chunks.length > 0)
          yield* Effect.sleep(millis)
          yield* sql`select 1`
        }))
      )),
    // those there are stay open, and nothing passes on them any more
    "connections silent": () =>
      Effect.gen(function*() {
        const isUsed = proxy.connections() > 0
        proxy.silence()
        yield* when(isUsed)
        // the server would keep them for as long as it is not told
        yield* Effect.forkDetach(Effect.andThen(Effect.sleep("8 seconds"), Effect.sync(proxy.forget)))
      }),
    "address leads to a standby": ({ millis }) =>
      address.withPermits(1)(
        Effect.gen(function*() {
          proxy.lead(standby.port)
          const before = proxy.made()
          // whoever was connected has to connect anew
          yield* query((sql) =>
            sql`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and usename is not null`
          )
          yield* Effect.sleep(millis)
          yield* Effect.repeat(Effect.sync(() => proxy.made()), {
            until: (made) => made > before,
            schedule: Schedule.spaced("50 millis")
          })
        }).pipe(Effect.ensuring(Effect.sync(() => proxy.lead(cluster.port))))
      )
  }
  return (fault: Planned): Effect.Effect<boolean> =>
    // a rollback on a connection that is gone is a defect
    Effect.catchDefect(deeds[fault.kind](fault), Effect.fail).pipe(
      Effect.retry(Schedule.spaced("200 millis")),
      Effect.timeoutOption("60 seconds"),
      Effect.map((done) => done._tag === "Some"),
      Effect.orElseSucceed(() => false)
    )
}
