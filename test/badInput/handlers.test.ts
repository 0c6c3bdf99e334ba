/**
 * Handlers that do what the compiler would not have let them do, or fail in ways nobody expects: as plug-ins without
 * types may. None of it stops the drain, none reaches the ledger, and whoever shares the claim is persisted at once.
 */
import { it as plain, layer } from "@effect/vitest"
import {
  CallRecorder,
  ChunkLedger,
  ChunkStore,
  DomainEvents,
  Drain,
  HandlerPlugin,
  HandlerRegistry
} from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import type { Definition } from "effect-sluice/Handler"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { expect } from "vitest"
import { keyOf, Note, note, record } from "../support/clinic.ts"
import { drainWith } from "../support/drain.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

const cycle: { self?: unknown } = {}
cycle.self = cycle
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
const one = (type: string, id: unknown) => () => Effect.succeed({ type, id })
const fails = () => Effect.fail(new Error("the ward is closed"))

/** What a handler does, and how its chunk ends: persisted, or charged with a failure of this kind and message. */
const table: ReadonlyArray<readonly [name: string, definition: unknown, end: string, message?: RegExp]> = [
  ["gives back a number", () => Effect.succeed(7), "defect", /names no row/],
  ["gives back a text", () => Effect.succeed("note-1"), "defect", /names no row/],
  ["gives back rows of a database", () => Effect.succeed([{ id: 1, text: "a" }]), "defect", /names no row/],
  ["gives back null", () => Effect.succeed(null), "persisted"],
  ["gives back a list with a hole", () => Effect.succeed([undefined]), "defect", /names no row/],
  ["gives back an id that is a number", one("clinic.Note", 7), "defect", /names no row/],
  ["gives back an id that is empty", one("clinic.Note", ""), "defect", /names no row/],
  ["gives back an id with NUL", one("clinic.Note", "a\u0000b"), "defect", /names no row/],
  ["gives back half an emoji as id", one("clinic.Note", "\udc00"), "defect", /names no row/],
  ["gives back a plain object of the right form", one("clinic.Note", "'; drop table note; --"), "persisted"],
  ["gives back something that holds itself", () => Effect.succeed([cycle]), "defect", /names no row/],
  ["gives back what cannot be read", () => Effect.succeed(revoked()), "defect", /revoked/],
  ["gives back a Map", () => Effect.succeed(new Map([["type", "id"]])), "defect", /names no row/],
  ["names one row twice", () => Effect.succeed([DomainObject.make("a", 1), DomainObject.make("a", 1)]), "persisted"],
  [
    "names more rows than can be read again",
    () => Effect.succeed(Array.from({ length: 200_000 }, (_, n) => DomainObject.make("clinic.Note", n))),
    "defect",
    /names 200000 rows, more than 50000: give back fewer/
  ],
  [
    "names a row by more bytes than can be read again",
    one("clinic.Note", "x".repeat(4_000_000)),
    "defect",
    /names rows by 4000\d+ bytes of JSON, more than 3145728/
  ],
  ["is an async function", () => Promise.resolve([]), "defect", /did not return an Effect/],
  ["gives back nothing at all", () => undefined, "defect", /did not return an Effect/],
  [
    "throws before there is an effect",
    () => {
      throw new Error("a bug")
    },
    "defect",
    /a bug/
  ],
  [
    "throws null",
    () => {
      throw null
    },
    "defect",
    /null/
  ],
  ["dies of a symbol", () => Effect.die(Symbol("bug")), "defect", /./],
  ["interrupts itself", () => Effect.interrupt, "failed", /interrupt/],
  ["fails with null", () => Effect.fail(null), "failed", /null/],
  ["fails with undefined", () => Effect.fail(undefined), "failed", /undefined/],
  ["fails with something that holds itself", () => Effect.fail(cycle), "failed", /./],
  ["fails with NUL and half an emoji in its words", () => Effect.fail(new Error("a\u0000b \udc00")), "failed", /a.*b/],
  ["fails with 10 MB of words", () => Effect.fail(new Error("x".repeat(10_000_000))), "failed", /x{1000}/],
  [
    "fails with what throws when it is read",
    () =>
      Effect.fail({
        get message() {
          throw new Error("no")
        }
      }),
    "defect",
    /cannot be read/
  ],
  ["fails with what cannot be read", () => Effect.fail(revoked()), "defect", /cannot be read/],
  [
    "cannot say whether it is permanent",
    {
      permanent: () => {
        throw new Error("no")
      },
      persist: fails
    },
    "failed",
    /closed/
  ],
  [
    "has a retry schedule that breaks",
    { retry: Schedule.modifyDelay(Schedule.spaced(1), () => Effect.die("no")), persist: fails },
    "failed",
    /closed/
  ],
  ["waits for ever before it is tried again", { retry: Schedule.spaced(Infinity), persist: fails }, "failed", /closed/],
  ["gives back no list for many", { persistMany: () => Effect.succeed(null) }, "defect", /no list of results/],
  ["gives back too few for many", { persistMany: () => Effect.succeed([]) }, "defect", /0 results for 1 inputs/],
  [
    "gives back too many for many",
    { persistMany: () => Effect.succeed([undefined, undefined]) },
    "defect",
    /2 results for 1/
  ],
  ["gives back garbage for many", { persistMany: () => Effect.succeed([7]) }, "defect", /names no row/],
  ["is async for many", { persistMany: () => Promise.resolve([]) }, "defect", /did not return an Effect/],
  [
    "throws for many",
    {
      persistMany: () => {
        throw new Error("a bug")
      }
    },
    "defect",
    /a bug/
  ]
]

const plugin = (namespace: string, definition: unknown) =>
  // what the compiler would not have let through
  HandlerPlugin.layer(namespace, Note, definition as Definition<typeof Note.schema.Type>)

/**
 * A failed chunk is tried again in an hour, whatever its handler says: the tests share a store whose time is real, and on
 * a busy machine a later one would claim it otherwise.
 */
const drain = drainWith((store) => ({
  settle: (token, settlements) => {
    const delayed = new Map(settlements.map((settlement) => [
      settlement._tag === "Retry" ? { ...settlement, delay: Duration.hours(1) } : settlement,
      settlement
    ]))
    return Effect.map(
      store.settle(token, [...delayed.keys()]),
      (done) => done.map((one) => ({ ...one, settlement: delayed.get(one.settlement)! }))
    )
  }
}))

const stores = [
  ["memory", MemoryStore.layer.pipe(Layer.provideMerge(Settings.layer()))],
  [
    "Postgres 18",
    Layer.unwrap(Effect.sync(() => Layer.provide(PgStore.layer, Postgres.layer()))).pipe(
      Layer.provideMerge(Settings.layer())
    )
  ]
] as const
for (const [name, store] of stores) {
  layer(CallRecorder.layer.pipe(Layer.provideMerge(store)), { excludeTestServices: true, timeout: 60_000 })(
    name,
    (it) => {
      for (const [index, [name, definition, end, message]] of table.entries()) {
        it.effect(`a handler that ${name}`, () => {
          const namespaces = [`bad-${index}`, `good-${index}`] as const
          const handlers = Layer.merge(plugin(namespaces[0], definition), plugin(namespaces[1], () => Effect.void))
          const drained = Layer.merge(drain, Layer.fresh(ChunkLedger.layer)).pipe(
            Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers))),
            Layer.provideMerge(DomainEvents.layer)
          )
          return Effect.gen(function*() {
            const drain = yield* Drain.Drain
            const store = yield* ChunkStore.ChunkStore
            yield* record(...namespaces.map((namespace) => note(namespace, {}, { namespace })))
            const report = yield* drain.cycle
            expect(report).toMatchObject({ claimed: 2, retried: end === "persisted" ? 0 : 1, dead: 0, released: 0 })
            const [bad, good] = yield* Effect.forEach(
              namespaces,
              (id) => Effect.map(inspect.call(id), (view) => Option.getOrThrow(view).chunks[0])
            )
            expect(good).toMatchObject({ state: "nothing-to-create", attempts: 0, failures: [] })
            // whatever was persisted can be read back, by everybody
            const ledger = yield* store.ledger(namespaces.map(keyOf))
            if (end === "persisted") {
              expect(bad?.ledger?.handlerVersion).toBe(1)
              expect(ledger).toHaveLength(2)
              expect(yield* drain.persistNow(namespaces[0])).toHaveLength(bad?.ledger?.objects.length ?? -1)
            } else {
              expect(bad).toMatchObject({ state: "scheduled", attempts: 1, failures: [{ kind: end }] })
              expect(bad?.failures[0]?.message).toMatch(message ?? /./)
              expect(bad?.failures[0]?.message.length).toBeLessThan(10_000)
              expect(ledger).toHaveLength(1)
              expect(yield* Effect.flip(drain.persistNow(namespaces[0]))).toMatchObject({ _tag: "ChunkBusy" })
            }
          }).pipe(Effect.provide(drained))
        })
      }
    }
  )
}

const impossible: ReadonlyArray<readonly [name: string, definition: unknown, message: string]> = [
  ["undefined", undefined, "neither a function nor a record"],
  ["a text", "persist", "neither a function nor a record"],
  ["a record of nothing", {}, "no function persist or persistMany"],
  ["a record with something else", { persist: [] }, "no function persist or persistMany"],
  ["version 0", { version: 0, persist: fails }, "version 0"],
  ["version one and a half", { version: 1.5, persist: fails }, "version 1.5"],
  ["a version that the ledger cannot hold", { version: 202611291205, persist: fails }, "from 1 to 2147483647"],
  ["a version in words", { version: "2", persist: fails }, "version \"2\""],
  ["no attempts", { maxAttempts: 0, persist: fails }, "maxAttempts 0"],
  ["attempts that are no number", { maxAttempts: Number.NaN, persist: fails }, "maxAttempts NaN"],
  [
    "a timeout that is none",
    { timeout: "soon", persist: fails },
    "timeout \"soon\" is not a duration above 0: write for example \"30 seconds\""
  ],
  ["no time to run in", { timeout: 0, persist: fails }, "timeout 0"],
  [
    "an option that is misspelt",
    { maxAttempt: 3, persist: fails },
    "no option \"maxAttempt\": there are version, maxAttempts"
  ],
  ["another that is misspelt", { tiemout: "1 second", persistMany: fails }, "no option \"tiemout\""],
  ["an option from another world", { orderBy: "id", persist: fails }, "no option \"orderBy\""],
  ["two ways to persist", { persist: fails, persistMany: fails }, "both persist and persistMany"],
  ["a retry in words", { retry: "1 second", persist: fails }, "retry \"1 second\" is not a Schedule"],
  ["a duration as retry", { retry: Duration.seconds(1), persist: fails }, "is not a Schedule"],
  ["a permanent that is a list", { permanent: ["WardClosed"], persist: fails }, "permanent is not a function"]
]
for (const [name, definition, message] of impossible) {
  plain.effect(`a handler that is ${name} stops the start, by its name`, () =>
    Effect.gen(function*() {
      const registry = HandlerRegistry.layer().pipe(Layer.provide(plugin("clinic", definition)))
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(registry)))
      const problem = Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit
      expect(problem).toMatchObject({ message: expect.stringContaining("handler clinic/note: ") })
      expect(problem).toMatchObject({ message: expect.stringContaining(message) })
    }))
}

const misplaced: ReadonlyArray<readonly [name: string, namespace: string, output: unknown, message: RegExp]> = [
  ["a namespace with a dot", "clinic.ward", Note, /clinic\.ward\/note: its namespace may hold only/],
  ["a namespace of nothing", "", Note, /its namespace is empty/],
  ["a namespace that is missing", undefined as unknown as string, Note, /its namespace is not a string/],
  ["a namespace of a page", "x".repeat(10_000), Note, /^.{1,200}its namespace has 10000 characters/],
  ["no output", "clinic", undefined, /namespace "clinic" is for something that is not an output/],
  [
    "an output that is a record",
    "clinic",
    { identity: Note.identity },
    /namespace "clinic" is for something that is not an output/
  ],
  ["a schema in an output's place", "clinic", Note.schema, /namespace "clinic" is for something that is not an output/]
]
for (const [name, namespace, output, message] of misplaced) {
  plain.effect(`a handler for ${name} stops the start`, () =>
    Effect.gen(function*() {
      const layer = HandlerPlugin.layer(namespace, output as typeof Note, () => Effect.void)
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(HandlerRegistry.layer().pipe(Layer.provide(layer)))))
      expect(Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit).toMatchObject({
        message: expect.stringMatching(message)
      })
    }))
}
