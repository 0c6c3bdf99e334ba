/**
 * What the compiler says of `sluice.config.ts`.
 */
import { defineConfig, type LibrarySettings } from "effect-sluice/config"
import * as Duration from "effect/Duration"
import { describe, expect, test } from "tstyche"
import type { names } from "../../src/cli/options.ts"
import type { CommandSettings } from "../../src/config.ts"
import type * as Settings from "../../src/Settings.ts"

/** `SLUICE_BATCHSIZE` of `SLUICE_BATCH_SIZE`. */
type Plain<Name extends string> = Name extends `SLUICE_${infer Rest}` ? `SLUICE_${Joined<Rest>}` : never
type Joined<Text extends string> = Text extends `${infer Left}_${infer Right}` ? `${Left}${Joined<Right>}` : Text

describe("defineConfig", () => {
  test("takes every setting by its name, in the type it is written in", () => {
    expect(defineConfig).type.toBeCallableWith({
      DATABASE_URL: "postgres://user@host/database",
      SLUICE_BATCH_SIZE: 500,
      SLUICE_LEASE: "30s",
      SLUICE_DEAD_BLOCKS_KEY: false,
      SLUICE_HANDLERS: ["a/*.ts", "b"],
      SLUICE_JSON: true,
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318"
    })
    expect(defineConfig).type.toBeCallableWith({})
    expect<keyof LibrarySettings>().type.toBeAssignableFrom<"SLUICE_MAX_RESULT_BYTES">()
  })

  test("takes no other name", () => {
    expect(defineConfig).type.not.toBeCallableWith({ SLUICE_BATCHSIZE: 500 })
    expect(defineConfig).type.not.toBeCallableWith({ batchSize: 500 })
  })

  test("takes no value of another type", () => {
    expect(defineConfig).type.not.toBeCallableWith({ DATABASE_URL: new URL("postgres://user@host/database") })
    expect(defineConfig).type.not.toBeCallableWith({ DATABASE_URL: ["postgres://user@host/database"] })
    expect(defineConfig).type.not.toBeCallableWith({ SLUICE_LEASE: Duration.seconds(30) })
    expect(defineConfig).type.not.toBeCallableWith({ SLUICE_BATCH_SIZE: "many" })
    expect(defineConfig).type.not.toBeCallableWith({ SLUICE_NOTIFY: [false] })
    expect(defineConfig).type.not.toBeCallableWith({ SLUICE_SCHEMA: null })
    expect(defineConfig).type.not.toBeCallableWith(() => ({}))
  })

  test("knows each setting that there is", () => {
    expect<typeof names[keyof typeof names]>().type.toBe<keyof CommandSettings>()
    // none is lost on the way to its name
    type Unnamed = { readonly [Field in keyof Settings.Values as `SLUICE_${Uppercase<string & Field>}`]: 1 }
    type Named = { readonly [Name in keyof LibrarySettings as Plain<Name>]: 1 }
    expect<keyof Named>().type.toBe<keyof Unnamed>()
  })
})
