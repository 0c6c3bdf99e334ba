/**
 * Test helpers for applications' handlers: sample calls and inputs, a drain in memory, and a rehearsal that simulates a
 * worker crash at every boundary and compares the tables with those of a clean run.
 */
export { layerMemory, type Memory } from "./testing/memory.ts"
export { exactlyOnce, NotExactlyOnce, type Rehearsal, RehearsalFailed } from "./testing/Rehearsal.ts"
export { runHandler } from "./testing/runHandler.ts"
export { sampleCall, sampleInput, type SampleOptions } from "./testing/samples.ts"
