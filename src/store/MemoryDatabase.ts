/**
 * A database in memory, for unit tests and for applications that keep their test tables beside Sluice's: tables of
 * immutable rows under text keys, and transactions that commit as a whole or leave no trace. Nothing outlives the layer.
 *
 * Transactions run concurrently and see what others have committed (like read committed in Postgres). Of two that touch
 * one key the first to commit wins; the other fails with {@link TransactionConflict}, and the drain retries it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** Another transaction committed a key that this one had read or written. Nothing was changed; retry. */
export class TransactionConflict extends Schema.TaggedError<TransactionConflict>()("TransactionConflict", {
  table: Schema.String,
  key: Schema.String
}) {
  /** Like a database's serialization failure, this is not the handler's fault. */
  readonly isRetryable = true
  override get message() {
    return `another transaction changed ${JSON.stringify(this.key)} of ${this.table} meanwhile; try again`
  }
}

/** Names a table and the type of its rows. Two handles with the same name refer to the same table. */
export interface Table<Row> {
  /** The table's name, unique in its database. */
  readonly name: string
  /** Carries the type of its rows. Never set. */
  readonly _Row?: (_: never) => Row
}

/**
 * Names a table.
 *
 * ```ts
 * const messages = MemoryDatabase.table<Message>("chatlab.message")
 * ```
 */
export const table = <Row>(name: string): Table<Row> => ({ name })

/** The operations of a transaction. They are synchronous. Rows are never changed, only replaced. */
export interface Access {
  /** The row of a key. */
  readonly get: <Row>(table: Table<Row>, key: string) => Row | undefined
  /** Inserts a row, or replaces it. */
  readonly set: <Row>(table: Table<Row>, key: string, row: Row) => void
  /** Deletes a row; does nothing when there is none. */
  readonly delete: (table: Table<unknown>, key: string) => void
  /** All rows, in the order in which their keys were first inserted. Not checked for conflicts. */
  readonly values: <Row>(table: Table<Row>) => ReadonlyArray<Row>
}

interface Stored {
  readonly version: number
  readonly row: unknown
}

type Tables = Map<string, Map<string, Stored>>

const gone = Symbol("gone")

class Transaction implements Access {
  readonly parent: Transaction | undefined
  readonly afterCommit: Array<Effect.Effect<void>> = []
  private readonly tables: Tables
  private readonly written = new Map<string, Map<string, unknown>>()
  private readonly seen = new Map<string, Map<string, number>>()

  constructor(tables: Tables, parent: Transaction | undefined) {
    this.tables = tables
    this.parent = parent
  }

  private own<A>(map: Map<string, Map<string, A>>, name: string): Map<string, A> {
    const found = map.get(name)
    if (found !== undefined) return found
    const made = new Map<string, A>()
    map.set(name, made)
    return made
  }

  private watch(name: string, key: string): void {
    const seen = this.own(this.seen, name)
    if (!seen.has(key)) seen.set(key, this.tables.get(name)?.get(key)?.version ?? 0)
  }

  private pending(name: string, key: string): unknown {
    const own = this.written.get(name)
    return own?.has(key) ? own.get(key) : this.parent?.pending(name, key)
  }

  get<Row>(table: Table<Row>, key: string): Row | undefined {
    this.watch(table.name, key)
    const pending = this.pending(table.name, key)
    if (pending === gone) return undefined
    // only `set` writes the table, so a row has the type of its handle
    return (pending ?? this.tables.get(table.name)?.get(key)?.row) as Row | undefined
  }

  set<Row>(table: Table<Row>, key: string, row: Row): void {
    this.watch(table.name, key)
    this.own(this.written, table.name).set(key, row)
  }

  delete(table: Table<unknown>, key: string): void {
    this.watch(table.name, key)
    this.own(this.written, table.name).set(key, gone)
  }

  private overlay(name: string, rows: Map<string, unknown>): void {
    this.parent?.overlay(name, rows)
    for (const [key, row] of this.written.get(name) ?? []) {
      if (row === gone) rows.delete(key)
      else rows.set(key, row)
    }
  }

  values<Row>(table: Table<Row>): ReadonlyArray<Row> {
    const rows = new Map<string, unknown>()
    for (const [key, stored] of this.tables.get(table.name) ?? []) rows.set(key, stored.row)
    this.overlay(table.name, rows)
    return [...rows.values()] as ReadonlyArray<Row>
  }

  /** Publishes the writes, or passes them to the parent. Returns the conflict that prevents this, if any. */
  commit(): TransactionConflict | undefined {
    if (this.parent !== undefined) {
      for (const [name, keys] of this.seen) for (const [key, version] of keys) this.parent.adopt(name, key, version)
      for (const [name, rows] of this.written) {
        const own = this.parent.own(this.parent.written, name)
        for (const [key, row] of rows) own.set(key, row)
      }
      this.parent.afterCommit.push(...this.afterCommit)
      return undefined
    }
    if (this.written.size === 0) return undefined
    for (const [name, keys] of this.seen) {
      for (const [key, version] of keys) {
        if ((this.tables.get(name)?.get(key)?.version ?? 0) !== version) {
          return new TransactionConflict({ table: name, key })
        }
      }
    }
    for (const [name, rows] of this.written) {
      const stored = this.own(this.tables, name)
      for (const [key, row] of rows) {
        if (row === gone) stored.delete(key)
        else stored.set(key, { version: nextVersion++, row })
      }
    }
    return undefined
  }

  private adopt(name: string, key: string, version: number): void {
    const seen = this.own(this.seen, name)
    if (!seen.has(key)) seen.set(key, version)
  }
}

// never 0: that version means "absent"
let nextVersion = 1

/** @internal Called on each use of the database by a fiber; may refuse the use with a defect. */
export const Observer = Context.Reference<(() => void) | undefined>("effect-sluice/MemoryDatabase/Observer", {
  defaultValue: () => undefined
})

/** The fiber's current transaction. */
const Current = Context.Reference<Transaction | undefined>("effect-sluice/MemoryDatabase/Current", {
  defaultValue: () => undefined
})

/**
 * The database.
 *
 * ```ts
 * const messages = MemoryDatabase.table<Message>("chatlab.message")
 * const db = yield* MemoryDatabase.MemoryDatabase
 * yield* db.use((access) => access.set(messages, "1", { id: "1", text: "It hurts." }))
 * ```
 */
export class MemoryDatabase extends Context.Service<MemoryDatabase, {
  /** Reads and writes in one step: in the surrounding transaction, or in one of its own. */
  readonly use: <A>(step: (access: Access) => A) => Effect.Effect<A>
  /** Runs an effect in a transaction. Nested in another one it is a savepoint: it can fail alone. */
  readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | TransactionConflict, R>
  /** Runs an effect after the surrounding transaction commits, or immediately when there is none. */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  /** Whether there is a surrounding transaction. */
  readonly inTransaction: Effect.Effect<boolean>
  /** The next number of a sequence, from 1. A rollback does not return it. */
  readonly next: (sequence: string) => Effect.Effect<number>
}>()("effect-sluice/MemoryDatabase") {}

/** An empty database. */
export const layer: Layer.Layer<MemoryDatabase> = Layer.sync(MemoryDatabase, () => {
  const tables: Tables = new Map()
  const sequences = new Map<string, number>()
  return MemoryDatabase.of({
    use: (step) =>
      Effect.withFiber((fiber) =>
        Effect.sync(() => {
          fiber.getRef(Observer)?.()
          const current = fiber.getRef(Current)
          if (current !== undefined) return step(current)
          const own = new Transaction(tables, undefined)
          const result = step(own)
          // no conflict is possible: the step is synchronous
          own.commit()
          return result
        })
      ),
    transaction: (effect) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const parent = yield* Current
          const own = new Transaction(tables, parent)
          const exit = yield* Effect.exit(restore(Effect.provideService(effect, Current, own)))
          if (Exit.isFailure(exit)) return yield* exit
          const conflict = own.commit()
          if (conflict !== undefined) return yield* conflict
          if (parent === undefined) {
            yield* Effect.provideService(Effect.all(own.afterCommit, { discard: true }), Current, undefined)
          }
          return exit.value
        })
      ),
    afterCommit: (effect) =>
      Effect.flatMap(Current, (current) => {
        if (current === undefined) return effect
        current.afterCommit.push(effect)
        return Effect.void
      }),
    inTransaction: Effect.map(Current, (current) => current !== undefined),
    next: (sequence) =>
      Effect.sync(() => {
        const next = (sequences.get(sequence) ?? 0) + 1
        sequences.set(sequence, next)
        return next
      })
  })
})
