/**
 * The contract of a store, on Postgres 18.
 */
import { contract } from "effect-sluice/testing/contract"
import { onStore } from "./operators/ground.ts"

onStore("Postgres 18", contract)
