/**
 * The contract of a store, on the embedded database: all but `pglite.long.test.ts`.
 */
import { contract } from "effect-sluice/testing/contract"
import { isLong, onStore } from "./operators/ground.ts"

onStore("PGlite", contract.filter((scene) => !isLong(scene)))
