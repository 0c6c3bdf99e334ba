/**
 * The contract of a store, on Postgres 15.
 */
import { contract } from "effect-sluice/testing/contract"
import { onStore } from "./operators/ground.ts"

onStore("Postgres 15", contract)
