/**
 * The services and state that all claims of one drain share. `Drain.ts` makes them. The head of `cycles.ts` says in which
 * order to read this folder.
 */
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import type { Kind } from "../Kind.ts"
import type * as Settings from "../Settings.ts"
import type { InsideUses } from "./insideUse.ts"
import type { Isolations } from "./isolation.ts"
import type { ClaimLog } from "./observe/log.ts"
import type { Pulse } from "./pulse.ts"
import type { Releases } from "./releases.ts"
import type { Rests } from "./rests.ts"
import type { Unfit } from "./unfit.ts"

/** The services and state that all claims of one drain share. */
export interface Engine {
  /** Without the handlers that cannot run here: see `unfit.ts`. */
  readonly registry: HandlerRegistry["Service"]
  readonly settings: Settings.Values
  readonly isolations: Isolations
  readonly unfit: Unfit
  readonly rests: Rests
  readonly uses: InsideUses
  readonly releases: Releases
  /** Records every step, to detect a drain that hangs. */
  readonly pulse: Pulse
  readonly log: ClaimLog
  /** The paused kinds, for claims that do not include them. */
  readonly paused: () => ReadonlyArray<Kind>
}
