/**
 * Counts what is in the tables after the drains: the output of `--json`.
 */
import { Inspector } from "effect-sluice"
import type { Recording } from "effect-sluice/CallLines"
import type { KindStatus } from "effect-sluice/Inspector"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { type Message, Messages } from "../Messages.ts"
import { Metadata } from "../Metadata.ts"
import { Simulations } from "../Simulations.ts"

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")

/**
 * A digest of all messages and their order. It covers the lines `simulation:h1,h2,…`, sorted by simulation, where each h is
 * the beginning of the digest of a message's text.
 */
export const messageOrder = (messages: ReadonlyArray<Message>): string => {
  const bySimulation = new Map<string, Array<string>>()
  for (const { content, simulationId } of messages) {
    const hashes = bySimulation.get(simulationId)
    const hash = sha256(content).slice(0, 12)
    if (hashes === undefined) bySimulation.set(simulationId, [hash])
    else hashes.push(hash)
  }
  const lines = [...bySimulation.keys()].sort().map((id) => `${id}:${bySimulation.get(id)!.join(",")}`)
  return sha256(lines.join("\n"))
}

/** Counts everything in the tables. `calls` and `refused` are those of this run. */
export const census = Effect.fnUntraced(function*({ calls, refused }: Recording) {
  const messages = yield* (yield* Messages).list
  const metadata = yield* (yield* Metadata).list
  const kinds = yield* (yield* Inspector.Inspector).status
  const sum = (of: (kind: KindStatus) => number) => kinds.reduce((total, kind) => total + of(kind), 0)
  const persisted = kinds.filter((kind) => kind.persisted > 0)
  return {
    simulations: yield* (yield* Simulations).count,
    calls: calls.size,
    messages: messages.length,
    metadata: metadata.length,
    by_schema: Object.fromEntries(persisted.map((kind) => [shortName(kind), kind.persisted])),
    message_order_sha256: messageOrder(messages),
    ledger: sum((kind) => kind.persisted),
    parked: sum((kind) => kind.parked),
    dead: sum((kind) => kind.dead),
    refused: refused.length,
    left: sum(leftOf)
  }
})
/** The counts of everything in the tables. */
export type Census = Effect.Success<ReturnType<typeof census>>

/** How many chunks of a kind are not persisted yet. */
export const leftOf = (kind: KindStatus): number => kind.ready + kind.inFlight + kind.scheduled + kind.waiting

/** The last part of a kind's schema identity. */
export const shortName = ({ schemaIdentity }: KindStatus): string =>
  schemaIdentity.slice(schemaIdentity.lastIndexOf(".") + 1)
