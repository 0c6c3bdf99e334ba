/**
 * The contract of a store, on the embedded database: the topics that take the longest.
 */
import { contract } from "effect-sluice/testing/contract"
import { isLong, onStore } from "./operators/ground.ts"

onStore("PGlite", contract.filter(isLong))
