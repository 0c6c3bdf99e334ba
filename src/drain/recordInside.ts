/**
 * Lets the store record a call and persist its outputs in one statement, if one declared handler serves them all. Otherwise,
 * or when the statement fails, `recordNow.ts` runs the handler on a claim, which makes the same rows and charges what is
 * refused.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ChunkStore, type InsideKind, type PersistedInside, type Recording } from "../ChunkStore.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { announce } from "../internal/announce.ts"
import { markOf } from "../internal/fingerprint.ts"
import { timeoutOf } from "./batch.ts"
import type { Engine } from "./engine.ts"
import { eventsOf } from "./inside.ts"
import { measureInside } from "./observe/metrics.ts"

/** A declared handler that serves all outputs of a call. */
interface Serving {
  readonly handler: Handler
  readonly declaration: NonNullable<Handler["declaration"]>
  readonly kind: InsideKind
}

/** The handler of all outputs of a call, if its declaration can be carried out without a program. */
const servingOf = ({ registry }: Engine, { context = {}, namespace, orderingKey, outputs }: Recording) => {
  const [first] = outputs
  const handler = first && registry.find(namespace, first.schema)
  if (handler?.declaration === undefined || orderingKey !== undefined) return undefined
  const { declaration, output: { fingerprint, identity, version } } = handler
  const isPlain = fingerprint !== undefined &&
    outputs.every((output) =>
      output.schema === identity && output.version === version && markOf(output) === fingerprint
    )
  const hasContext = declaration.columns.every(({ source }) =>
    source._tag !== "Context" || !source.isRequired || typeof context[source.key] === "string"
  )
  if (!isPlain || !hasContext) return undefined
  return {
    handler,
    declaration,
    kind: { namespace: handler.namespace, schemaIdentity: identity, version, fingerprint }
  }
}

const chunksOf = (
  { callId, context = {}, correlationId = callId, namespace, outputs, service }: Recording,
  objects: ReadonlyArray<ReadonlyArray<DomainObject>>,
  recordedAt: number
): ReadonlyArray<PersistedInside> =>
  outputs.map(({ part = "", schema: schemaIdentity }, index) => ({
    key: { callId, schemaIdentity, part },
    namespace,
    service,
    correlationId,
    context,
    recordedAt,
    objects: objects[index] ?? []
  }))

/**
 * Records a call and persists its outputs. Undefined if that was not done, or is unknown because the answer was lost:
 * then the call may be recorded all the same.
 */
export const make = (engine: Engine, services: Context.Context<ChunkStore | DomainEvents>) => {
  const store = Context.get(services, ChunkStore)
  const events = Context.get(services, DomainEvents)
  const { declaredInside, handlerTimeout, recordWithin } = engine.settings
  // with 0 the call must be recorded first: the statement may wait for a lock
  const isOn = declaredInside && !Duration.isZero(recordWithin)

  const record = Effect.fnUntraced(function*(call: Recording, { declaration, handler, kind }: Serving) {
    const clock = yield* Clock.Clock
    const now = clock.currentTimeMillisUnsafe()
    const began = clock.monotonicTimeNanosUnsafe()
    const objects = yield* store.recordInside(call, {
      declaration,
      handler: handler.name,
      handlerVersion: handler.options.version ?? 1,
      lockTimeout: recordWithin,
      timeout: timeoutOf(handler, handlerTimeout)
    }).pipe(
      Effect.catch((error) =>
        Effect.as(Effect.logDebug(`not recorded and persisted at once: ${error.message}`), undefined)
      )
    )
    engine.pulse.progress()
    if (objects === undefined) return undefined
    engine.unfit.succeeded(handler)
    engine.rests.end(handler)
    const chunks = chunksOf(call, objects, now)
    engine.uses.persisted(handler, chunks.length)
    yield* store.afterCommit(announce(() => events.publish(eventsOf(handler.name, chunks))))
    yield* measureInside(kind, handler.name, chunks, began)
    return objects.flat()
    // what is committed must be announced; the store makes its statement interruptible again
  }, Effect.uninterruptible)

  return (call: Recording): Effect.Effect<ReadonlyArray<DomainObject> | undefined> =>
    Effect.suspend(() => {
      const serving = isOn ? servingOf(engine, call) : undefined
      return serving === undefined ? Effect.undefined : record(call, serving)
    })
}
