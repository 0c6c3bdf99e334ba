/**
 * What follows from a failed batch: whom it is charged to, and in which batches the others are tried next.
 */
import {
  AlreadyPersisted,
  ChunksLocked,
  ChunkStoreError,
  LeaseLost,
  TransactionSpoiled
} from "effect-sluice/ChunkStore"
import * as Cause from "effect/Cause"
import { describe, expect, it } from "vitest"
import { type BatchError, BatchFailed, BatchSuffered, HandlerTimeout, NotShared } from "../../src/drain/failure.ts"
import type { Prepared } from "../../src/drain/prepare.ts"
import { type Batch, batchOf, split } from "../../src/drain/split.ts"

/** Chunks by their names; `b/knee` has an ordering key. */
const chunks = (names: string): ReadonlyArray<Prepared> =>
  names.split(" ").filter((name) => name !== "").map((name, index) => {
    const [, orderingKey] = name.split("/")
    // a plan looks at nothing else of a chunk
    return { chunk: { seq: BigInt(index), orderingKey, key: { callId: name } } } as unknown as Prepared
  })

const nameOf = ({ chunk }: Prepared): string => chunk.key.callId

/** A plan in a line: who is charged, who is given back, and the batches that come next. */
const told = (batch: Batch, error: BatchError) => {
  const { charge, giveBack, giveBackLater, next } = split(batch, error)
  return {
    ...(charge.length === 0 ? {} : { charge: charge.map(({ kind, one }) => `${nameOf(one)} ${kind}`).join(", ") }),
    ...(giveBack.length === 0 ? {} : { giveBack: giveBack.map(nameOf).join(" ") }),
    ...(giveBackLater.length === 0 ? {} : { giveBackLater: giveBackLater.map(nameOf).join(" ") }),
    next: next.map(({ blamed, isPart, members }) =>
      `${members.map(nameOf).join(" ")}${isPart ? " part" : ""}${blamed > 0 ? ` blamed ${blamed}` : ""}`
    )
  }
}

const because = Cause.fail("it fails")
const failed = (
  members: ReadonlyArray<Prepared>,
  fields: {
    readonly failed: ReadonlyArray<number>
    readonly maybeHarmed?: boolean
    readonly failedUnsent?: ReadonlyArray<number>
    readonly notRun?: ReadonlyArray<number>
    readonly asIfAlone?: boolean
  }
) =>
  new BatchFailed({
    failed: new Map(fields.failed.map((at) => [members[at]!, because])),
    maybeHarmed: new Set(fields.maybeHarmed === true ? fields.failed.map((at) => members[at]!) : []),
    failedUnsent: new Map((fields.failedUnsent ?? []).map((at) => [members[at]!, because])),
    notRun: (fields.notRun ?? []).map((at) => members[at]!),
    asIfAlone: fields.asIfAlone ?? false
  })

describe("of runs one after another, the one that failed", () => {
  const members = chunks("a b c d e")

  it("is tried alone, after what came before it and what comes after it", () => {
    expect(told(batchOf(members), failed(members, { failed: [2], notRun: [3, 4] }))).toEqual({
      next: ["a b", "d e", "c"]
    })
  })

  it("is charged at once if nothing had been sent before it", () => {
    expect(told(batchOf(members), failed(members, { failed: [0], notRun: [1, 2, 3, 4], asIfAlone: true }))).toEqual({
      charge: "a failed",
      next: ["b c d e"]
    })
  })

  it("is charged at once if it is alone", () => {
    const [only] = chunks("a")
    expect(told(batchOf([only!]), failed([only!], { failed: [0] }))).toEqual({ charge: "a failed", next: [] })
  })

  it("goes before those of its ordering key that come after it", () => {
    const keyed = chunks("a/knee b c/knee d e/knee f")
    expect(told(batchOf(keyed), failed(keyed, { failed: [2], notRun: [3, 4, 5] }))).toEqual({
      next: ["a/knee b", "d f", "c/knee", "e/knee"]
    })
  })

  it("leaves those that had failed before they sent anything with their own failure", () => {
    expect(told(batchOf(members), failed(members, { failed: [3], failedUnsent: [1], notRun: [4] }))).toEqual({
      charge: "b failed",
      next: ["a c", "e", "d"]
    })
  })
})

describe("of runs together", () => {
  const members = chunks("a b c d e f")

  it("the innocent go together, each that failed by itself alone, and the other suspects in halves", () => {
    const error = new BatchFailed({
      failed: new Map([1, 3, 4, 5].map((at) => [members[at]!, because])),
      maybeHarmed: new Set([3, 4, 5].map((at) => members[at]!)),
      failedUnsent: new Map(),
      notRun: [],
      asIfAlone: false
    })
    expect(told(batchOf(members), error)).toEqual({ next: ["a c", "b", "d e", "f"] })
  })

  it("one that another may have harmed is tried alone, after the others", () => {
    expect(told(batchOf(members), failed(members, { failed: [3], maybeHarmed: true, notRun: [4] }))).toEqual({
      next: ["a b c f", "e", "d"]
    })
  })

  it("a whole batch that failed is halved", () => {
    expect(told(batchOf(members), failed(members, { failed: [0, 1, 2, 3, 4, 5], maybeHarmed: true }))).toEqual({
      next: ["a b c", "d e f"]
    })
  })
})

describe("when the database failed a batch and is there for everybody else", () => {
  const members = chunks("a b c d/knee e/knee")
  const lost = new ChunkStoreError({ operation: "persist", transient: true, reason: "connection closed" })

  it("the batch is tried once more, and then halved", () => {
    expect(told(batchOf(members), lost)).toEqual({ next: ["a b c d/knee e/knee blamed 1"] })
    expect(told({ ...batchOf(members), blamed: 1 }, lost)).toEqual({ next: ["a b c part", "d/knee e/knee part"] })
  })

  it("one that is alone is charged after it has happened again and again", () => {
    const alone = [members[0]!]
    for (const blamed of [0, 1, 2, 3]) {
      expect(told({ ...batchOf(alone), blamed }, lost)).toEqual({ next: [`a blamed ${blamed + 1}`] })
    }
    expect(told({ ...batchOf(alone), blamed: 4 }, lost)).toEqual({ charge: "a failed", next: [] })
  })

  it("the one in whose run it happened is set apart, and charged only alone", () => {
    const suffered = new BatchSuffered({ error: lost, survived: false, one: members[3] })
    expect(told({ ...batchOf(members), blamed: 1 }, suffered)).toEqual({
      next: ["a b c part", "d/knee part", "e/knee part"]
    })
    const first = new BatchSuffered({ error: lost, survived: false, one: members[0] })
    expect(told({ ...batchOf(members), blamed: 1 }, first)).toEqual({ next: ["b c d/knee e/knee part", "a part"] })
    expect(told({ ...batchOf([members[0]!]), blamed: 3 }, first)).toEqual({ charge: "a failed", next: [] })
  })

  it("a conflict that outlasts its tries is treated the same way", () => {
    const conflict = new BatchSuffered({ error: lost, survived: true, one: undefined })
    expect(told(batchOf(members), conflict)).toEqual({ next: ["a b c part", "d/knee e/knee part"] })
  })
})

describe("of the store's own errors", () => {
  const members = chunks("a b/knee c/knee d")

  it("a lost lease gives all back", () => {
    expect(told(batchOf(members), new LeaseLost({ claimed: 4, held: 2 }))).toEqual({
      giveBack: "a b/knee c/knee d",
      next: []
    })
  })

  it("chunks locked by another session are given back later, and those behind them at once", () => {
    expect(told(batchOf(members), new ChunksLocked({ locked: [1n] }))).toEqual({
      giveBack: "c/knee",
      giveBackLater: "b/knee",
      next: ["a d"]
    })
  })

  it("what is in the ledger of its own transaction only is tried apart, and charged alone", () => {
    expect(told(batchOf(members), new AlreadyPersisted({ claimed: 4, kept: 3 }))).toEqual({
      next: ["a b/knee", "c/knee d"]
    })
    expect(told(batchOf([members[0]!]), new AlreadyPersisted({ claimed: 1, kept: 0 }))).toEqual({
      charge: "a spoiled",
      next: []
    })
  })

  it("a transaction that could not commit is tried apart, and charged alone", () => {
    const spoiled = new TransactionSpoiled({ reason: "a constraint does not hold" })
    expect(told(batchOf(members), spoiled)).toEqual({ next: ["a b/knee", "c/knee d"] })
    expect(told(batchOf([members[0]!]), spoiled)).toEqual({ charge: "a spoiled", next: [] })
  })

  it("runs that cannot share a transaction are tried again, another way", () => {
    const refusal = { reason: "shared", statement: "set local role x" } as const
    expect(told(batchOf(members), new NotShared({ one: members[1]!, refusal }))).toEqual({
      next: ["a b/knee c/knee d"]
    })
  })
})

it("a failure is charged by its kind", () => {
  const [one] = chunks("a")
  const kindOf = (cause: Cause.Cause<unknown>) =>
    split(
      batchOf([one!]),
      new BatchFailed({
        failed: new Map([[one!, cause]]),
        maybeHarmed: new Set(),
        failedUnsent: new Map(),
        notRun: [],
        asIfAlone: true
      })
    ).charge[0]?.kind
  expect(kindOf(Cause.fail("no"))).toBe("failed")
  expect(kindOf(Cause.die(new Error("a bug")))).toBe("defect")
  expect(kindOf(Cause.fail(new HandlerTimeout({ after: 1000 as never, hangs: false })))).toBe("timeout")
})

it("nothing of a batch is forgotten, whatever happened to it", () => {
  const members = chunks("a/x b c/x d e/x f")
  const lost = new ChunkStoreError({ operation: "persist", transient: true, reason: "closed" })
  const errors: ReadonlyArray<BatchError> = [
    lost,
    new LeaseLost({ claimed: 1, held: 0 }),
    new AlreadyPersisted({ claimed: 1, kept: 0 }),
    new TransactionSpoiled({ reason: "no" }),
    new ChunksLocked({ locked: [0n, 3n] }),
    new BatchSuffered({ error: lost, survived: false, one: members[2] }),
    new BatchSuffered({ error: lost, survived: true, one: undefined }),
    new NotShared({ one: members[0]!, refusal: { reason: "together", statement: "select 1" } }),
    ...members.map((_, at) =>
      failed(members, {
        failed: [at],
        notRun: members.map((_, n) => n).filter((n) => n > at),
        asIfAlone: at === 0
      })
    ),
    failed(members, { failed: [0, 1, 2], maybeHarmed: true, failedUnsent: [5], notRun: [4] })
  ]
  for (const error of errors) {
    for (const blamed of [0, 1, 5]) {
      const { charge, giveBack, giveBackLater, next } = split({ members, isPart: false, blamed }, error)
      const all = [...charge.map(({ one }) => one), ...giveBack, ...giveBackLater, ...next.flatMap((b) => b.members)]
      expect(all.map(nameOf).sort(), `${error._tag} ${blamed}`).toEqual(members.map(nameOf).sort())
    }
  }
})
