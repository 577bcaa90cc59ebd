//! What goes wrong, and when: spells of trouble over the day, and now and then a fault of its own.

use std::time::Duration;

use crate::{dice::Dice, ledger::Key};

/// A kind of trouble that lasts for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The authorization server refuses connections.
    IssuerDown,
    /// It takes requests and never answers.
    IssuerHangs,
    /// Every other answer is faulty.
    IssuerFlaky,
    /// It answers with 429 or 503.
    IssuerThrottles,
    /// A proxy answers in its place, with a page.
    IssuerBehindProxy,
    /// It takes seconds to answer.
    IssuerSlow,
    /// Its lifetimes are absurd, or its tokens of no use.
    IssuerAbsurd,
    /// Its tokens live for seconds.
    IssuerHasty,
    /// It does not know the client.
    ClientUnknown,
    ApiDown,
    ApiSlow,
    ApiFlaky,
    /// The API refuses every token.
    ApiRefuses,
    /// The same, without saying why.
    ApiRefusesMutely,
    /// One of its paths refuses every token.
    ApiRefusesOnePath,
    ApiRefusesOnePathMutely,
    /// It refuses each new token for a while.
    ApiLags,
    ApiLagsMutely,
    /// Its challenges break the grammar.
    ApiSloppy,
    /// It takes minutes to answer now and then.
    ApiLate,
    /// It wants more than a token has.
    ApiWantsMore,
    StoreDown,
    StoreReadOnly,
    StoreSlow,
    StoreSilent,
    /// The source of tokens panics.
    SourcePanics,
    /// No log line can be written: the subscriber panics.
    LogFails,
}

const ALL: [Trouble; 26] = [
    Trouble::IssuerDown,
    Trouble::IssuerHangs,
    Trouble::IssuerFlaky,
    Trouble::IssuerThrottles,
    Trouble::IssuerBehindProxy,
    Trouble::IssuerSlow,
    Trouble::IssuerAbsurd,
    Trouble::IssuerHasty,
    Trouble::ClientUnknown,
    Trouble::ApiDown,
    Trouble::ApiSlow,
    Trouble::ApiFlaky,
    Trouble::ApiRefuses,
    Trouble::ApiRefusesMutely,
    Trouble::ApiRefusesOnePath,
    Trouble::ApiRefusesOnePathMutely,
    Trouble::ApiLags,
    Trouble::ApiLagsMutely,
    Trouble::ApiSloppy,
    Trouble::ApiLate,
    Trouble::ApiWantsMore,
    Trouble::StoreDown,
    Trouble::StoreReadOnly,
    Trouble::StoreSlow,
    Trouble::StoreSilent,
    Trouble::SourcePanics,
];

#[derive(Debug)]
struct Spell {
    trouble: Trouble,
    /// Whom it is for; all, if `None`.
    key: Option<Key>,
    from: Duration,
    until: Duration,
}

/// The weather of a day.
#[derive(Debug)]
pub(crate) struct Weather {
    spells: Vec<Spell>,
    /// From here on it is calm.
    end: Duration,
}

impl Weather {
    /// Draws the weather until `end`.
    pub(crate) fn draw(dice: &Dice, keys: usize, end: Duration) -> Self {
        let spells = (0..SPELLS).map(|_| {
            let trouble = dice.pick(&ALL);
            let most = match trouble {
                // Each of these costs many token requests.
                Trouble::IssuerHasty | Trouble::SourcePanics => 600.0,
                _ => 7200.0,
            };
            let from = end.mul_f64(dice.part());
            let until = (from + dice.seconds(10.0, most)).min(end);
            let key = dice.chance(0.5).then(|| dice.below(keys));
            Spell { trouble, key, from, until }
        });
        let mut spells: Vec<_> = spells.collect();
        // Refusals that no renewal ends, for hours; the last ones until the calm.
        for n in 0..USELESS_SPELLS {
            let last = n < USELESS_SPELLS / 2;
            let until = if last { end } else { end.mul_f64(dice.part()) };
            let from = until.saturating_sub(dice.seconds(1800.0, 18_000.0));
            let (trouble, key) = (dice.pick(&USELESS), Some(dice.below(keys)));
            spells.push(Spell { trouble, key, from, until });
        }
        for trouble in [Trouble::ApiSloppy, Trouble::ApiLate, Trouble::LogFails] {
            let from = end.mul_f64(dice.part());
            let until = (from + dice.seconds(1800.0, 18_000.0)).min(end);
            spells.push(Spell { trouble, key: None, from, until });
        }
        Self { spells, end }
    }

    /// Whether refusals of this key's tokens are of no use.
    pub(crate) fn refuses_in_vain(&self, key: Key, at: Duration) -> bool {
        USELESS.iter().any(|trouble| self.has(*trouble, key, at))
    }

    pub(crate) fn is_calm(&self, at: Duration) -> bool {
        at >= self.end
    }

    pub(crate) fn has(&self, trouble: Trouble, key: Key, at: Duration) -> bool {
        self.spells.iter().any(|spell| {
            spell.trouble == trouble
                && spell.key.is_none_or(|one| one == key)
                && (spell.from..spell.until).contains(&at)
        })
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.spells.iter().map(|spell| format!("weather: {spell:?}"))
    }
}

const SPELLS: usize = 30;
const USELESS_SPELLS: usize = 6;
const USELESS: [Trouble; 6] = [
    Trouble::ApiRefuses,
    Trouble::ApiRefusesMutely,
    Trouble::ApiRefusesOnePath,
    Trouble::ApiRefusesOnePathMutely,
    Trouble::ApiLags,
    Trouble::ApiLagsMutely,
];
