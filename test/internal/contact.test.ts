/**
 * Which leases a store may judge to be over: none that ended while the server could not be reached, or in a time that
 * its clock leapt over, until their workers had a lease's time to say that they live.
 */
import * as Duration from "effect/Duration"
import { describe, expect, it } from "vitest"
import * as Contact from "../../src/store/pg/contact.ts"

const lease = 60_000
/** A contact made when the server's clock showed a million, and this process's zero. */
const made = () => {
  const contact = Contact.make(Duration.millis(lease))
  contact.heard(1_000_000, 0)
  return contact
}
/** A lease that ended at this time of the server's is taken to be over. */
const isOver = (contact: Contact.Contact, now: number, ended: number) => ended < contact.judged(now)

describe("contact with a server", () => {
  it("judges by the server alone before anything was heard, and while its clock goes as this one", () => {
    expect(Contact.make(Duration.millis(lease)).judged(5)).toBe(Infinity)
    const contact = made()
    expect(isOver(contact, 20_000, 1_020_000)).toBe(true)
    contact.heard(1_020_000, 20_000)
    expect(isOver(contact, 20_000, 1_020_000)).toBe(true)
    // a clock that is a little faster is the same clock, also after hours without a word
    contact.heard(1_020_000 + 10_000_000 + 2_000, 10_020_000)
    expect(isOver(contact, 10_020_000, 1_020_000 + 10_000_000)).toBe(true)
  })

  it("does not judge what ended in an outage, before a lease after it", () => {
    const contact = made()
    contact.lost()
    contact.lost()
    // known to be over before: that stays over
    expect(isOver(contact, 90_000, 999_999)).toBe(true)
    expect(isOver(contact, 90_000, 1_030_000)).toBe(false)
    contact.heard(1_100_000, 100_000)
    contact.heard(1_120_000, 120_000)
    expect(isOver(contact, 120_000, 1_030_000)).toBe(false)
    expect(isOver(contact, 160_001, 1_030_000)).toBe(true)
  })

  it("judges nothing for a lease, where it began in an outage", () => {
    const contact = Contact.make(Duration.millis(lease))
    contact.lost()
    contact.heard(1_100_000, 100_000)
    expect(isOver(contact, 120_000, 5)).toBe(false)
    expect(isOver(contact, 160_001, 5)).toBe(true)
  })

  it("does not put off for ever what ended in an outage when others follow", () => {
    const contact = made()
    for (let second = 10; second < 200; second += 10) {
      contact.lost()
      contact.heard(1_000_000 + second * 1000, second * 1000)
    }
    expect(isOver(contact, 190_000, 1_005_000)).toBe(true)
  })

  it("does not judge what ended in a time that the server's clock leapt over", () => {
    const contact = made()
    // it does not know yet; the statement that will tell it compares with what it expects
    expect(isOver(contact, 5_000, 1_003_000)).toBe(true)
    expect(isOver(contact, 5_000, 1_050_000)).toBe(false)
    contact.heard(4_605_000, 5_000)
    expect(isOver(contact, 6_000, 1_050_000)).toBe(false)
    // what was promised since is judged by the new clock
    contact.heard(4_660_000, 60_000)
    expect(isOver(contact, 65_001, 1_050_000)).toBe(true)
    expect(isOver(contact, 65_001, 4_664_000)).toBe(true)
  })

  it("is not disturbed by a clock that goes back", () => {
    const contact = made()
    contact.heard(400_000, 5_000)
    expect(isOver(contact, 6_000, 400_500)).toBe(true)
  })
})
