/**
 * Recorded calls, and what becomes of their chunks: those of the contract, for other tests.
 */
export * from "../../../src/testing/contract/dialogues.ts"
