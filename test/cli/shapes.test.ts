/**
 * What the reading commands print with `--json` of one ward, to the letter: scripts depend on it.
 */
import { ChunkStore, Pauses } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll, describe, expect, it } from "vitest"
import { call, claimWith, record, reply, results, settle } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"
import { run } from "./inProcess.ts"

const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** A ward in which a chunk stands in each state. */
const ward = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const knee = { orderingKey: "knee" }
  yield* record(call("done"), call("nothing"), call("dead", knee), call("parked", { namespace: "triage" }))
  yield* settle(({ key: { callId } }) =>
    callId === "done"
      ? "persisted"
      : callId === "nothing"
      ? "nothing"
      : callId === "parked"
      ? "parked"
      : { dead: "rejected" }
  )
  yield* record(call("failed", {}, { schema: results, part: "left" }), call("behind", knee))
  yield* settle(({ key: { callId } }) => callId === "failed" ? { retry: "1 hour" } : "released")
  yield* claimWith({ limit: 1 })
  yield* record(call("due"))
  yield* store.beat("ward-7/4711/abc", [{ namespace: "chatlab", schemaIdentity: reply }, {
    namespace: "core",
    schemaIdentity: results
  }])
  yield* Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "triage", schemaIdentity: "*" }, "the ward is closed"))
})

const url = await Effect.runPromise(
  Effect.gen(function*() {
    const url = yield* migratedDatabase()
    yield* Effect.provide(ward, PgStore.layer.pipe(Layer.provide(client(url))))
    return url
  }).pipe(Scope.provide(scope))
)

/** Times, and spans of time, are not the same in each run. */
const steady = (json: string): unknown =>
  JSON.parse(json, (name, value: unknown) =>
    typeof value === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value)
      ? "a time"
      : ["seen", "next"].includes(name) && typeof value === "number"
      ? "seconds"
      : value)

const printed = async (...line: ReadonlyArray<string>) => {
  const { reason, stdout } = await run(...line, "--json", "--url", url)
  expect(reason).toBe("")
  return steady(stdout)
}

describe("the JSON", () => {
  it("of `status`", async () => {
    expect(await printed("status")).toMatchInlineSnapshot(`
      {
        "declared": [],
        "kinds": [
          {
            "about": false,
            "dead": 1,
            "due": 1,
            "inFlight": 0,
            "namespace": "chatlab",
            "newestVersion": 1,
            "oldest": "a time",
            "parked": 0,
            "persisted": 2,
            "ready": 1,
            "scheduled": 0,
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
            "waiting": 1,
          },
          {
            "about": false,
            "dead": 0,
            "due": 0,
            "inFlight": 0,
            "namespace": "chatlab",
            "newestVersion": 1,
            "oldest": "a time",
            "parked": 0,
            "persisted": 0,
            "ready": 0,
            "scheduled": 1,
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-results",
            "waiting": 0,
          },
          {
            "about": false,
            "dead": 0,
            "due": 0,
            "inFlight": 0,
            "namespace": "triage",
            "newestVersion": 1,
            "oldest": "a time",
            "parked": 1,
            "persisted": 0,
            "ready": 0,
            "scheduled": 0,
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
            "waiting": 0,
          },
        ],
        "lastMinute": 2,
        "pauses": [
          {
            "namespace": "triage",
            "pausedAt": "a time",
            "reason": "the ward is closed",
            "schemaIdentity": "*",
          },
        ],
        "workers": [
          {
            "alive": true,
            "host": "ward-7",
            "id": "ward-7/4711/abc",
            "pid": "4711",
            "seen": "seconds",
            "serves": [
              "chatlab/schemas.chatlab.standardized_patient.patient-reply",
              "core/schemas.chatlab.standardized_patient.patient-results",
            ],
            "versions": {},
          },
        ],
      }
    `)
  })

  it("of `stuck`", async () => {
    const { chunks, more } = await printed("stuck") as {
      chunks: ReadonlyArray<{ readonly due: unknown }>
      more: boolean
    }
    const spans = chunks.map((chunk) => ({ ...chunk, due: typeof chunk.due === "number" ? "seconds" : chunk.due }))
    expect({ chunks: spans, more }).toMatchInlineSnapshot(`
      {
        "chunks": [
          {
            "attempts": 1,
            "behind": null,
            "callId": "failed",
            "crashes": 0,
            "due": null,
            "error": "the ward is closed",
            "namespace": "chatlab",
            "next": "seconds",
            "orderingKey": null,
            "parkedFor": null,
            "part": "left",
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-results",
            "why": "scheduled",
            "worker": null,
          },
          {
            "attempts": 0,
            "behind": null,
            "callId": "parked",
            "crashes": 0,
            "due": "seconds",
            "error": null,
            "namespace": "triage",
            "next": null,
            "orderingKey": null,
            "parkedFor": "no-handler",
            "part": "",
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
            "why": "parked",
            "worker": null,
          },
          {
            "attempts": 0,
            "behind": "dead",
            "callId": "behind",
            "crashes": 0,
            "due": "seconds",
            "error": null,
            "namespace": "chatlab",
            "next": null,
            "orderingKey": "knee",
            "parkedFor": null,
            "part": "",
            "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
            "why": "waiting",
            "worker": null,
          },
        ],
        "more": false,
      }
    `)
  })

  it("of `show`, by a call's id and by a row's name", async () => {
    expect(await printed("show", "done")).toEqual(await printed("show", "chatlab.Message:message of done"))
    expect(await printed("show", "done")).toMatchInlineSnapshot(`
      {
        "calls": [
          {
            "attempts": [],
            "callId": "done",
            "chunks": [
              {
                "attempts": 0,
                "behind": null,
                "crashes": 0,
                "death": null,
                "dueAt": null,
                "failures": [],
                "key": {
                  "callId": "done",
                  "part": "",
                  "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
                },
                "leasedBy": null,
                "leasedUntil": null,
                "ledger": {
                  "handler": "chatlab/patient-reply",
                  "handlerVersion": 1,
                  "key": {
                    "callId": "done",
                    "part": "",
                    "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
                  },
                  "namespace": "chatlab",
                  "objects": [
                    {
                      "id": "message of done",
                      "type": "chatlab.Message",
                    },
                  ],
                  "persistedAt": "a time",
                  "schemaVersion": 1,
                },
                "namespace": "chatlab",
                "orderingKey": null,
                "parkedFor": null,
                "schemaVersion": 1,
                "state": "persisted",
              },
            ],
            "context": {
              "simulationId": "knee",
            },
            "correlationId": "done",
            "erasure": null,
            "error": null,
            "facts": {},
            "finishedAt": "a time",
            "namespace": "chatlab",
            "outputs": [
              {
                "data": {
                  "text": "Ouch, done.",
                },
                "schema": "schemas.chatlab.standardized_patient.patient-reply",
                "version": 1,
              },
            ],
            "recordedAt": "a time",
            "service": "services.chatlab.standardized_patient.generate-reply",
            "status": "succeeded",
            "trace": null,
          },
        ],
      }
    `)
    expect(await printed("show", "behind")).toMatchInlineSnapshot(`
      {
        "calls": [
          {
            "attempts": [],
            "callId": "behind",
            "chunks": [
              {
                "attempts": 0,
                "behind": "dead",
                "crashes": 0,
                "death": null,
                "dueAt": null,
                "failures": [],
                "key": {
                  "callId": "behind",
                  "part": "",
                  "schemaIdentity": "schemas.chatlab.standardized_patient.patient-reply",
                },
                "leasedBy": null,
                "leasedUntil": null,
                "ledger": null,
                "namespace": "chatlab",
                "orderingKey": "knee",
                "parkedFor": null,
                "schemaVersion": 1,
                "state": "waiting",
              },
            ],
            "context": {
              "simulationId": "knee",
            },
            "correlationId": "behind",
            "erasure": null,
            "error": null,
            "facts": {},
            "finishedAt": "a time",
            "namespace": "chatlab",
            "outputs": [
              {
                "data": {
                  "text": "Ouch, behind.",
                },
                "schema": "schemas.chatlab.standardized_patient.patient-reply",
                "version": 1,
              },
            ],
            "recordedAt": "a time",
            "service": "services.chatlab.standardized_patient.generate-reply",
            "status": "succeeded",
            "trace": null,
          },
        ],
      }
    `)
    expect(await printed("show", "failed")).toMatchInlineSnapshot(`
      {
        "calls": [
          {
            "attempts": [],
            "callId": "failed",
            "chunks": [
              {
                "attempts": 1,
                "behind": null,
                "crashes": 0,
                "death": null,
                "dueAt": "a time",
                "failures": [
                  {
                    "at": "a time",
                    "attempt": 1,
                    "handler": "chatlab/patient-reply",
                    "kind": "failed",
                    "message": "the ward is closed",
                  },
                ],
                "key": {
                  "callId": "failed",
                  "part": "left",
                  "schemaIdentity": "schemas.chatlab.standardized_patient.patient-results",
                },
                "leasedBy": null,
                "leasedUntil": null,
                "ledger": null,
                "namespace": "chatlab",
                "orderingKey": null,
                "parkedFor": null,
                "schemaVersion": 1,
                "state": "scheduled",
              },
            ],
            "context": {
              "simulationId": "knee",
            },
            "correlationId": "failed",
            "erasure": null,
            "error": null,
            "facts": {},
            "finishedAt": "a time",
            "namespace": "chatlab",
            "outputs": [
              {
                "data": {
                  "text": "Ouch, failed.",
                },
                "part": "left",
                "schema": "schemas.chatlab.standardized_patient.patient-results",
                "version": 1,
              },
            ],
            "recordedAt": "a time",
            "service": "services.chatlab.standardized_patient.generate-reply",
            "status": "succeeded",
            "trace": null,
          },
        ],
      }
    `)
  })

  it("of `doctor`", async () => {
    const { stdout } = await run("doctor", "--json", "--url", url)
    const { findings, severity } = JSON.parse(stdout) as {
      readonly severity: string
      readonly findings: ReadonlyArray<{ readonly check: string; readonly found: string; readonly advice: string }>
    }
    const inAll = ["server", "encoding", "search path", "clock", "tables", "owners", "autovacuum", "bloat", "indexes"]
    expect({
      severity,
      findings: findings.map((one) =>
        inAll.includes(one.check) ?
          one.check :
          `${one.check}: ${
            one.found.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "a time").replaceAll(/\b\d+ ?(ms|s)\b/g, "a span")
          }`
      )
    }).toMatchInlineSnapshot(`
      {
        "findings": [
          "server",
          "encoding",
          "search path",
          "clock",
          "tables",
          "owners",
          "pooler: none in transaction mode",
          "migrations: current",
          "sequences: none is behind the tables",
          "answers: each is queued, persisted or dead",
          "rights: no role that drains lacks one",
          "indexes",
          "autovacuum",
          "bloat",
          "snapshots: none is held for long",
          "workers: 1 alive",
          "age: the oldest due chunk has waited a span",
          "scheduled: 1, since a span, latest error of call failed: the ward is closed",
          "leases: none ran out long ago",
          "declared handlers: no living worker has any: see \`sluice handlers\`",
          "handlers: nothing is parked because it has none",
          "namespaces: some worker drains each namespace with due chunks",
          "pauses: triage/* (the ward is closed) since a time",
          "dead letters: 1",
          "held up: 1 behind a dead letter of their ordering key, for example of call dead",
          "waiting: each waiting chunk has an older one before it",
          "subscriptions: there are none",
          "event log: its transaction ids are this cluster's",
        ],
        "severity": "attention",
      }
    `)
  })

  it("of `mend` and `pause`", async () => {
    expect(await printed("mend", "--dry-run")).toMatchInlineSnapshot(`
      {
        "mendings": [
          {
            "count": 0,
            "name": "waiting",
          },
        ],
      }
    `)
    expect(await printed("pause", "--namespace", "dental")).toMatchInlineSnapshot(`
      {
        "pauses": [
          {
            "namespace": "dental",
            "pausedAt": "a time",
            "reason": "",
            "schemaIdentity": "*",
          },
          {
            "namespace": "triage",
            "pausedAt": "a time",
            "reason": "the ward is closed",
            "schemaIdentity": "*",
          },
        ],
      }
    `)
  })
})
