/**
 * The demo's flags, and the place of the data that they name.
 */
import type * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { WrongFlags } from "./mistakes.ts"
import type { Place } from "./places.ts"

/** The flags of the demo. */
export const flags = {
  input: Flag.File("input").pipe(
    Flag.withDescription("recorded calls, one JSON object a line; without it, the demo's own samples"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("print the numbers as one line of JSON instead of the report"),
    Flag.withDefault(false)
  ),
  store: Flag.Literals("store", ["memory", "embedded", "postgres"]).pipe(
    Flag.withDescription("where the data is kept"),
    Flag.withDefault("embedded")
  ),
  url: Flag.String("url").pipe(
    Flag.withDescription("the server of --store postgres; DATABASE_URL when absent"),
    Flag.optional
  ),
  data: Flag.String("data").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("keep the data for the next run: a folder (embedded) or a database's name (postgres)"),
    Flag.optional
  ),
  workers: Flag.Int("workers").pipe(
    Flag.withDescription("how many drains at once"),
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))),
    Flag.withDefault(1)
  )
}
/** The flags as given. */
export type Flags = Command.Command.Config.Infer<typeof flags>

/** The default folder of the samples' data. */
export const sampleFolder = ".sluice/demo"

/** The place of the data that the flags name. */
export const placeOf = Effect.fnUntraced(
  function*({ data, input, store, url }: Flags): Effect.fn.Return<Place, WrongFlags> {
    const kept = Option.getOrUndefined(data)
    if (store !== "postgres" && Option.isSome(url)) {
      return yield* new WrongFlags({ reason: "--url is for --store postgres" })
    }
    switch (store) {
      case "memory":
        return kept === undefined
          ? { _tag: "Memory" }
          : yield* new WrongFlags({ reason: "--store memory keeps nothing, so --data is of no use to it" })
      case "embedded":
        return { _tag: "Embedded", folder: kept ?? (Option.isSome(input) ? undefined : sampleFolder) }
      case "postgres": {
        const server = Option.isSome(url)
          ? url
          : yield* Effect.orElseSucceed(Config.option(Config.String("DATABASE_URL")), Option.none<string>)
        return Option.isSome(server)
          ? { _tag: "Postgres", url: server.value, database: kept }
          : yield* new WrongFlags({ reason: "--store postgres needs --url postgres://… or DATABASE_URL" })
      }
    }
  }
)
