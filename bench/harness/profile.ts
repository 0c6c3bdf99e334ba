/**
 * Where a Node process spends its time: the samples of its profiler, summed by part of the code.
 */
import { Session } from "node:inspector/promises"
import type { Figures } from "./rounds.ts"

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string }
}

/** The parts, by the path of the code. The first that matches counts. */
const parts: ReadonlyArray<readonly [part: string, fits: (name: string, url: string) => boolean]> = [
  ["idle", (name) => name === "(idle)" || name === "post"],
  ["garbageCollection", (name) => name === "(garbage collector)"],
  ["socket", (name) => name === "writeBuffer" || name === "writev" || name === "writeUtf8String"],
  ["driver", (_, url) => url.includes("@effect/sql-pg") || url.includes("/pg/") || url.includes("pg-protocol")],
  ["schema", (_, url) => /effect\/(src|dist)\/Schema/.test(url)],
  ["effect", (_, url) => url.includes("node_modules/effect/")],
  ["handler", (_, url) => url.includes("/bench/")],
  ["sluice", (_, url) => url.includes("/src/")],
  ["other", () => true]
]

/** Runs something under the profiler. Microseconds by part. */
export const profiled = async (run: () => Promise<unknown>): Promise<Figures> => {
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: 250 })
  await session.post("Profiler.start")
  await run()
  const { profile } = await session.post("Profiler.stop")
  session.disconnect()
  const nodes = new Map(profile.nodes.map((node: ProfileNode) => [node.id, node.callFrame]))
  const micros: Record<string, number> = {}
  for (const [index, sample] of (profile.samples ?? []).entries()) {
    const frame = nodes.get(sample)
    const [part = "other"] = parts.find(([, fits]) => fits(frame?.functionName ?? "", frame?.url ?? "")) ?? []
    micros[part] = (micros[part] ?? 0) + (profile.timeDeltas?.[index] ?? 0)
  }
  return micros
}
