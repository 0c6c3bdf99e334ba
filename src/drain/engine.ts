/**
 * What all claims of one drain share.
 */
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import type { Kind } from "../Kind.ts"
import type * as Settings from "../Settings.ts"
import type { Isolations } from "./isolation.ts"
import type { ClaimLog } from "./observe/log.ts"
import type { Pulse } from "./pulse.ts"
import type { Releases } from "./releases.ts"
import type { Unfit } from "./unfit.ts"

/** What all claims of one drain share. */
export interface Engine {
  readonly registry: HandlerRegistry["Service"]
  readonly settings: Settings.Values
  readonly isolations: Isolations
  readonly unfit: Unfit
  readonly releases: Releases
  /** Told of every step, so that a drain that hangs is noticed. */
  readonly pulse: Pulse
  readonly log: ClaimLog
  /** Kinds that are paused, where the claim does not say. */
  readonly paused: () => ReadonlyArray<Kind>
}
