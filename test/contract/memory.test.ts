/**
 * The contract of a store, on the store in memory.
 */
import { contract } from "effect-sluice/testing/contract"
import { onStore } from "./operators/ground.ts"

onStore("memory", contract)
