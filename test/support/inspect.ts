/**
 * What tests ask a store: the questions of the contract, for other tests.
 */
export * from "../../src/testing/contract/inspect.ts"
