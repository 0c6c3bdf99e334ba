/**
 * The dashboard and the alert rules ask for what is exported: its names, its labels, the values they can have. Read by
 * Prometheus' own grammar.
 */
import { parser } from "@prometheus-io/lezer-promql"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import path from "node:path"
import { describe, expect, it } from "vitest"
import YAML from "yaml"
import * as Metrics from "../../src/Metrics.ts"

const examples = path.resolve(import.meta.dirname, "../../examples")
const read = (file: string) => fs.readFileSync(path.join(examples, file), "utf8")

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly action: string }
}
const rules: ReadonlyArray<Rule> = YAML.parse(read("alert-rules.yml")).groups.flatMap(
  (group: { readonly rules: ReadonlyArray<Rule> }) => group.rules
)
interface Panel {
  readonly title: string
  readonly targets: ReadonlyArray<{ readonly expr: string }>
}
const panels: ReadonlyArray<Panel> = JSON.parse(read("grafana-dashboard.json")).panels

/** What an expression asks for: its series with what they are matched by, and the labels that are grouped by. */
const asks = (expr: string) => {
  const selectors: Array<{ readonly name: string; readonly matchers: ReadonlyArray<readonly [string, string]> }> = []
  const labels = new Set<string>()
  const problems: Array<string> = []
  parser.parse(expr).iterate({
    enter: (node) => {
      const text = expr.slice(node.from, node.to)
      if (node.type.isError) problems.push(`${expr.slice(0, node.from)}>>>${expr.slice(node.from)}`)
      if (node.name === "VectorSelector") {
        const [, name = "", inner = ""] = /^([a-z_:]+)(?:\{(.*)\})?$/s.exec(text.trim()) ?? []
        const matchers = [...inner.matchAll(/(\w+)\s*=~?\s*"([^"]*)"/g)].map(([, label = "", value = ""]) =>
          [label, value] as const
        )
        selectors.push({ name, matchers })
      }
      if (node.name === "GroupingLabels") { for (const [label] of text.matchAll(/\w+/g)) labels.add(label) }
    }
  })
  return { selectors, labels, problems }
}

const expressions = [
  ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ...panels.flatMap(({ targets, title }) => targets.map(({ expr }) => [title, expr] as const))
]
const isOurs = (name: string) => name.startsWith("sluice_")
const family = (name: string) => name.replace(/_(bucket|sum|count)$/, "")

describe("rules and dashboard", () => {
  it.each(expressions)("%s: asks for what there is", (_, expr) => {
    const { labels, problems, selectors } = asks(expr)
    expect(problems).toEqual([])
    expect(selectors.length).toBeGreaterThan(0)
    const ours = selectors.filter(({ name }) => isOurs(name))
    for (const { matchers, name } of ours) {
      const known = Metrics.labels[family(name)]
      expect({ name, known }).toEqual({ name, known: expect.any(Array) })
      for (const [label, value] of matchers) {
        expect({ name, labels: known }).toEqual({ name, labels: expect.arrayContaining([label]) })
        for (const one of value.split("|")) expect(Metrics.values[name]).toContain(one)
      }
    }
    const grouped = [...labels].filter((label) => label !== "le")
    const all = ours.flatMap(({ name }) => Metrics.labels[family(name)] ?? [])
    expect(grouped.filter((label) => !all.includes(label))).toEqual([])
  })

  it("the expressions are understood at all: what is wrong in one is seen", () => {
    expect(asks("sum by (state (sluice_queue_chunks)").problems).not.toEqual([])
    expect(asks("max(sluice_queue_chunks{state=\"dead\"}) > 0").selectors)
      .toEqual([{ name: "sluice_queue_chunks", matchers: [["state", "dead"]] }])
  })

  it("every metric is on the dashboard, and every rule says what to do by commands there are", () => {
    const shown = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => asks(expr).selectors))
    expect(Metrics.names.filter((name) => !shown.some((one) => family(one.name) === name))).toEqual([])
    const commands = fs.readdirSync(path.resolve(import.meta.dirname, "../../src/cli/commands"))
      .map((file) => file.replace(".ts", ""))
    for (const { alert, annotations: { action, summary } } of rules) {
      expect({ alert, summary }).toEqual({ alert, summary: expect.stringMatching(/./) })
      for (const [, command] of action.matchAll(/sluice ([a-z]+)/g)) expect(commands).toContain(command)
    }
  })

  const promtool = process.env["PROMTOOL"] ?? "promtool"
  const isThere = spawnSync(promtool, ["--version"]).status === 0

  it.skipIf(!isThere)("the rules do what their tests say (where Prometheus' promtool is; it is not on npm)", () => {
    const { status, stderr, stdout } = spawnSync(promtool, ["test", "rules", "alert-rules.test.yml"], {
      cwd: examples,
      encoding: "utf8"
    })
    expect({ status, said: status === 0 ? "" : stdout + stderr }).toEqual({ status: 0, said: "" })
  })

  it("a page is for what is due, never for what is parked or dead", () => {
    const pages = rules.filter(({ labels }) => labels.severity === "page")
    expect(pages.length).toBeGreaterThan(2)
    for (const { expr } of pages) {
      const asked = asks(expr).selectors.flatMap(({ matchers }) => matchers.map(([, value]) => value))
      expect(asked.filter((value) => /parked|dead/.test(value))).toEqual([])
    }
    // without any persisted series it is a page all the same
    expect(rules.find(({ alert }) => alert === "SluiceNothingIsPersisted")?.expr).toContain("or vector(0)")
  })
})
