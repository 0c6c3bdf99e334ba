/**
 * One cycle in a process of its own, to be killed in the middle of it. The database's address is the first argument.
 */
import { Drain } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { client } from "../support/client.ts"
import { drain } from "./ward.ts"

await Effect.runPromise(
  Effect.flatMap(Drain.Drain, (drain) => drain.cycle).pipe(
    Effect.provide(drain.pipe(Layer.provide(client(process.argv[2] ?? "", { maxConnections: 2 }))))
  )
)
