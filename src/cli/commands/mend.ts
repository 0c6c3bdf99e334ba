/**
 * `sluice mend`: repairs what needs no decision.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ChunkStore, type ChunkStoreError } from "../../ChunkStore.ts"
import { Inspector } from "../../Inspector.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice mend --json` prints. */
export const Mended = Schema.Struct({
  mendings: Schema.Array(Schema.Struct({
    name: Schema.String,
    /** How many were mended; with `--dry-run`, how many there are to mend. */
    count: Schema.Int
  }))
})

/** A repair that needs no decision. */
interface Mending {
  readonly name: string
  /** How many there are to mend. */
  readonly find: Effect.Effect<number, ChunkStoreError, Inspector | ChunkStore>
  /** Mends them, and returns how many it mended. */
  readonly mend: Effect.Effect<number, ChunkStoreError, Inspector | ChunkStore>
  readonly found: (count: number) => string
  readonly mended: (count: number) => string
}

const chunks = (count: number) => print.counted(count, "chunk")

const stranded: Mending = {
  name: "waiting",
  find: Inspector.use(({ vitals }) => Effect.map(vitals.stranded(), ({ count }) => count)),
  mend: ChunkStore.use((store) => store.releaseWaiting),
  found: (count) => `${chunks(count)} to release, with nothing before them`,
  mended: (count) => `${chunks(count)} released, with nothing before them`
}

/** All repairs. */
const mendings: ReadonlyArray<Mending> = [stranded]

/** The command. */
export const mend = Command.make(
  "mend",
  { ...options.common, dryRun: options.on("dry-run", "only report what it would repair") },
  ({ dryRun, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const done = yield* Effect.forEach(mendings, (mending) =>
        Effect.map(dryRun ? mending.find : mending.mend, (count) => ({ mending, count })))
      if (json) {
        return yield* print.json(Mended, { mendings: done.map(({ count, mending: { name } }) => ({ name, count })) })
      }
      const some = done.filter(({ count }) =>
        count > 0
      )
      if (some.length === 0) yield* print.line("nothing to repair")
      for (const { count, mending } of some) {
        yield* print.line(`${mending.name}: ${dryRun ? mending.found(count) : mending.mended(count)}`)
      }
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "Repair what needs no decision. Releases chunks that wait although no older one of their ordering key is outstanding, " +
      "for example after SLUICE_DEAD_BLOCKS_KEY was set to false"
  ),
  Command.withShortDescription("Repair what needs no decision"),
  Command.withExamples([{ command: "sluice mend --dry-run", description: "See what it would repair" }])
)
