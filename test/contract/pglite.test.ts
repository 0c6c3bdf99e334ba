/**
 * The contract of a store, on the embedded database.
 */
import { contract } from "effect-sluice/testing/contract"
import { onStore } from "./operators/ground.ts"

onStore("PGlite", contract)
