/**
 * `sluice subscriptions`: what is listed, and what each of its commands changes.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { layer } from "@effect/vitest"
import { EventLog } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Command from "effect/cli/Command"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestConsole from "effect/testing/TestConsole"
import { expect } from "vitest"
import { sluice, version } from "../../src/cli/command.ts"
import { SubscriptionList, SubscriptionSkipped } from "../../src/cli/commands/subscriptions.ts"
import * as Help from "../../src/cli/Help.ts"
import { Rebased } from "../../src/EventLog.ts"
import { call, record, settle } from "../contract/operators/dialogues.ts"
import * as Postgres from "../support/Postgres.ts"

class Url extends Context.Service<Url, string>()("test/Url") {}
// a server of its own: a transaction under way in another test's database would keep the end of the log from being read
const ground = PgStore.layer.pipe(
  Layer.provideMerge(Layer.unwrap(Effect.map(Url, (url) => Postgres.client(url)))),
  Layer.provideMerge(Layer.effect(Url, Postgres.serverAlone(18)))
)

/** Runs `sluice subscriptions` with these arguments. */
const run = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const url = yield* Url
  return yield* Effect.gen(function*() {
    const logged: Array<string> = []
    const logger = Logger.layer([Logger.make(({ message }) => logged.push(String(message)))])
    const exit = yield* Effect.exit(
      Command.runWith(sluice, { version })(["subscriptions", ...args, "--url", url]).pipe(Effect.provide(logger))
    )
    return {
      logged,
      failed: exit._tag === "Failure",
      stdout: (yield* TestConsole.logLines).join("\n"),
      stderr: (yield* TestConsole.errorLines).join("\n")
    }
  }).pipe(Effect.provide([Help.layer, NodeServices.layer, TestConsole.layer]))
})
/** The same, as JSON of a schema. */
const asked = <S extends Schema.Codec<any, any>>(schema: S, ...args: ReadonlyArray<string>) =>
  Effect.map(
    run(...args, "--json"),
    ({ stdout }): S["Type"] => Schema.decodeUnknownSync(Schema.toCodecJson(schema))(JSON.parse(stdout))
  )
const narrow = (text: string) => {
  for (const line of text.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80)
}

const persist = (...ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true })
const take = (name: string) =>
  EventLog.EventLog.use((log) =>
    Effect.map(
      log.take(name, { limit: 10, maxBytes: 1e9, lease: Duration.minutes(1), reader: "ward-1/4711" }),
      Option.getOrThrow
    )
  )
/** It fails with what it stands before. */
const fail = (name: string) =>
  Effect.gen(function*() {
    const log = yield* EventLog.EventLog
    const { token } = yield* take(name)
    const failure = { message: "PaymentError: the account is closed", delay: Duration.minutes(5) }
    yield* log.release(name, token, { suspects: 1, failure })
  })

layer(ground, { excludeTestServices: true, timeout: 60_000 })("sluice subscriptions", (it) => {
  it.effect("lists no subscription, and then for each its unread entries, its reader and its error", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      expect((yield* run()).stdout).toBe("there are no subscriptions")
      yield* persist("a", "b", "c")
      yield* log.open("audit", "now")
      yield* log.open("billing", "beginning")
      yield* log.open("chatlab.media-with-a-name-that-is-long", "beginning")
      yield* fail("billing")
      yield* take("chatlab.media-with-a-name-that-is-long")
      const { stdout } = yield* run()
      narrow(stdout)
      expect(stdout.replaceAll(/\d+ (ms|s|min)/g, "AGE").replaceAll(/ +/g, " ")).toBe([
        "subscription unread oldest state",
        "audit 0 has read everything",
        "billing 3 AGE failed once; next in AGE",
        " before a schemas.chatlab.standardized_patient.patient-reply",
        " latest error: PaymentError: the account is closed",
        "chatlab.media-with-a-na… 3 AGE read by ward-1/4711"
      ].join("\n"))
      const { subscriptions } = yield* asked(SubscriptionList)
      expect(subscriptions).toMatchObject([
        { name: "audit", behind: 0, next: null, reader: null },
        { name: "billing", behind: 3, attempts: 1, next: { key: { callId: "a" } } },
        { behind: 3, reader: { id: "ward-1/4711" } }
      ])
      yield* log.remove("chatlab.media-with-a-name-that-is-long")
    }))

  it.effect("skip passes over what it fails with, says what that is, and keeps why", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      expect((yield* run("skip", "audit", "--because", "x")).stderr).toMatch(/audit has read everything/)
      expect((yield* run("skip", "none", "--because", "x")).stderr).toMatch(
        /no subscription none: `sluice subscriptions`/
      )
      const { logged, stdout } = yield* run("skip", "billing", "--because", "the account is closed")
      expect(logged).toEqual([expect.stringMatching(/^subscription billing skips a .*: the account is closed$/)])
      expect(stdout).toBe("skipped a schemas.chatlab.standardized_patient.patient-reply")
      expect(yield* sql`select name, call_id, reason, last_error from sluice.subscription_skip`).toEqual([
        {
          name: "billing",
          call_id: "a",
          reason: "the account is closed",
          last_error: "PaymentError: the account is closed"
        }
      ])
      // the next one has not failed
      expect(yield* run("skip", "billing", "--because", "x")).toMatchObject({
        failed: true,
        stderr: expect.stringMatching(/has not failed with its next entry, call b.* --call b/)
      })
      expect((yield* run("skip", "billing", "--because", "x", "--call", "c")).stderr).toMatch(
        /billing is call b, not c/
      )
      expect(yield* asked(SubscriptionSkipped, "skip", "billing", "--because", "x", "--call", "b"))
        .toMatchObject({ subscription: "billing", skipped: { callId: "b" } })
      expect((yield* run()).stdout).toMatch(/billing +1 .* has no reader\n {2}skipped 2 entries/)
    }))

  it.effect("reset lets it go on from the beginning, from now, or from a time", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const behind = (to: string) =>
        Effect.map(
          asked(SubscriptionList, "reset", "billing", "--to", to),
          ({ subscriptions }) => subscriptions.find((one) => one.name === "billing")?.behind
        )
      yield* sql`update sluice.persisted_chunk set persisted_at = now() - interval '2 days' where call_id = 'a'`
      // the clock of these tests stands still, and the server's does not
      const [{ yesterday } = { yesterday: "" }] = yield* sql<{ yesterday: string }>`
        select to_char((now() - interval '1 day') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as yesterday`
      expect(yield* behind("beginning")).toBe(3)
      expect(yield* behind("now")).toBe(0)
      expect(yield* behind("1d")).toBe(2)
      expect(yield* behind("3d")).toBe(3)
      expect(yield* behind(yesterday)).toBe(2)
      expect(yield* behind(yesterday.slice(0, 10))).toBe(2)
      for (const to of ["yesterday", "2026", "", "1x", "-1h"]) {
        expect((yield* run("reset", "billing", `--to=${to}`)).stderr, to).toMatch(
          /is not a place: write beginning, now/
        )
      }
      expect((yield* run("reset", "none", "--to", "now")).stderr).toMatch(/no subscription none/)
    }))

  it.effect("remove forgets it", () =>
    Effect.gen(function*() {
      expect((yield* run("remove", "billing")).stdout).not.toContain("billing")
      expect((yield* run("remove", "billing")).stderr).toMatch(/no subscription billing/)
    }))

  it.effect("rebase makes the log readable in another cluster, and does nothing where it is", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      expect((yield* run("rebase")).stdout).toMatch(/belongs to this cluster: nothing to do/)
      yield* sql`update sluice.subscription set xact = '9000000000' where name = 'audit'`
      yield* persist("d")
      expect((yield* run("rebase")).stdout)
        .toBe("4 entries persisted in this cluster now come after the moved ones; 4 of them may be delivered again")
      expect(yield* asked(Rebased, "rebase")).toEqual({ outcome: "ours", moved: 0, repeated: 0 })
      expect((yield* take("audit")).entries).toHaveLength(4)
    }))
})
