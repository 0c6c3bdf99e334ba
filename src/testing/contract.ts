/**
 * The contract of a store, for those who write one: every rule that the drain, the recorder and the command rely on, as a
 * list of scenes. Sluice's own stores are tested by the same list.
 *
 * ```ts
 * import { contract, type Given } from "effect-sluice/testing/contract"
 *
 * declare const myStore: Layer.Layer<Given, never, Settings.Settings>
 *
 * for (const scene of contract) {
 *   it.effect(`${scene.topic}: ${scene.name}`, () => scene.run(myStore), 60_000)
 * }
 * ```
 */
import { beat } from "./contract/beat.ts"
import { callEnds } from "./contract/callEnds.ts"
import { claiming } from "./contract/claiming.ts"
import { deadLetters } from "./contract/deadLetters.ts"
import { declared } from "./contract/declared.ts"
import { elements } from "./contract/elements.ts"
import { erasure } from "./contract/erasure.ts"
import { eventLog } from "./contract/eventLog.ts"
import { callFacts } from "./contract/facts.ts"
import { inspector } from "./contract/inspector.ts"
import { invalidAnswers } from "./contract/invalidAnswers.ts"
import { liveEvents } from "./contract/liveEvents.ts"
import { ordering } from "./contract/ordering.ts"
import { pauses } from "./contract/pauses.ts"
import { persisting } from "./contract/persisting.ts"
import { recording } from "./contract/recording.ts"
import { recordNow } from "./contract/recordNow.ts"
import { recordNowDeclared } from "./contract/recordNowDeclared.ts"
import { repairs } from "./contract/repairs.ts"
import { retention } from "./contract/retention.ts"
import type { Scene } from "./contract/scenes.ts"
import { versions } from "./contract/versions.ts"
import { views } from "./contract/views.ts"

export { ContractBroken, type Scene } from "./contract/scenes.ts"
export { Edits, type Given, Rows, Time } from "./contract/services.ts"

/**
 * Every scene. They are independent of each other; each takes a fresh store. The scenes of the topics `eventLog` and
 * `callEnds` expect that no transaction of others runs on the same server: subscriptions read up to the oldest one.
 */
export const contract: ReadonlyArray<Scene> = [
  ...recording,
  ...callFacts,
  ...invalidAnswers,
  ...recordNow,
  ...recordNowDeclared,
  ...claiming,
  ...persisting,
  ...declared,
  ...ordering,
  ...beat,
  ...versions,
  ...elements,
  ...views,
  ...inspector,
  ...deadLetters,
  ...repairs,
  ...pauses,
  ...retention,
  ...erasure,
  ...eventLog,
  ...callEnds,
  ...liveEvents
]
