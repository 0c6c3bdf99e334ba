/**
 * The story of paid answers in a process of its own, to be killed in the middle of it. The database's address is the first
 * argument.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { client } from "../support/client.ts"
import { application, story } from "./answersStory.ts"

await Effect.runPromise(
  story.pipe(
    Effect.provide(application.pipe(Layer.provideMerge(client(process.argv[2] ?? "", { maxConnections: 2 }))))
  )
)
