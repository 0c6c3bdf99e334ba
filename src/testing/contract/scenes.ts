/**
 * A scene of the contract, and how it is played: on a store of its own, to success or to the rule that does not hold.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as Settings from "../../Settings.ts"
import type { Given, Stage } from "./services.ts"

/** A store does not keep the contract. `cause` is the failed expectation, or the error of the store. */
export class ContractBroken extends Schema.TaggedError<ContractBroken>()("ContractBroken", {
  topic: Schema.String,
  scene: Schema.String,
  reason: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `${this.topic}: ${this.scene}: ${this.reason}`
  }
}

/** One rule of the contract, as a program that fails when a store does not keep it. */
export interface Scene {
  /** The part of the contract that it belongs to, such as `claiming`. */
  readonly topic: string
  /** The rule. Unique in its topic. */
  readonly name: string
  /**
   * Builds the store afresh and plays the scene on it, with the settings that the scene needs: the store's layer must
   * take its settings from `Settings`. Begin with empty tables: a scene leaves behind what it recorded. A store that does
   * not keep the contract may keep a scene from ending: give it a time limit.
   */
  readonly run: <E, R>(
    store: Layer.Layer<Given, E, R>
  ) => Effect.Effect<void, ContractBroken, Exclude<R, Settings.Settings>>
}

/** Adds a scene to a topic. */
export type Test = (
  name: string,
  scene: () => Effect.Effect<unknown, unknown, Stage | Scope>,
  settings?: Settings.Options
) => void

const reasonOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

/** The scenes of a topic, in the order in which they are added. */
export const topic = (topic: string, scenes: (test: Test) => void): ReadonlyArray<Scene> => {
  const list: Array<Scene> = []
  scenes((name, scene, settings = {}) => {
    const broken = (cause: Cause.Cause<unknown>) => {
      const error = Cause.squash(cause)
      return Cause.hasInterruptsOnly(cause)
        ? Effect.interrupt
        : Effect.fail(new ContractBroken({ topic, scene: name, reason: reasonOf(error), cause: error }))
    }
    list.push({
      topic,
      name,
      run: (store) =>
        Effect.scoped(Effect.suspend(scene)).pipe(
          Effect.provide(Layer.fresh(Layer.provideMerge(store, Settings.layer(settings))), { local: true }),
          Effect.catchCause(broken),
          Effect.asVoid
        )
    })
  })
  return list
}
