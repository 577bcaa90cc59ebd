//! Refresh tokens: that the newest survives.

use super::{Cause, Invariant::I8, Key, Ledger, Serial, facts::Spent};

impl Ledger {
    /// A refresh token was spent for another one, which nobody has until it is delivered.
    pub(crate) fn rotated(&mut self, key: Key, old: usize, new: usize) {
        self.say(format!("refresh token {old} of key {key} is replaced by {new}"));
        self.count("rotated");
        let spent = Spent { key, successor: new, lost: true };
        self.spent.insert(old, spent);
    }

    /// The answer with this access token did not arrive in a form that is of use.
    pub(crate) fn lost(&mut self, serial: Serial) {
        self.say(format!("the answer with token {serial} is lost"));
        self.count("lost answer");
    }

    /// The answer with this access token, and perhaps a new refresh token, was read to its end.
    pub(crate) fn delivered(&mut self, serial: Serial, refresh_token: Option<usize>) {
        let key = self.tokens[serial].key;
        if !self.keys.entry(key).or_default().persisted {
            self.arrived(serial);
        }
        if let Some(new) = refresh_token {
            self.know(key, |successor| successor == new, true);
        }
    }

    /// The answer was read to its end, and its access token is of no use. The refresh token in it is:
    /// the server has spent the old one for it.
    pub(crate) fn refused(&mut self, serial: Serial, refresh_token: Option<usize>) {
        self.say(format!("token {serial} is of no use"));
        self.count("refused answer");
        let key = self.tokens[serial].key;
        if let Some(new) = refresh_token {
            self.know(key, |successor| successor == new, true);
        }
    }

    fn know(&mut self, key: Key, which: impl Fn(usize) -> bool, known: bool) {
        for spent in self.spent.values_mut() {
            if spent.key == key && which(spent.successor) {
                spent.lost = !known;
            }
        }
    }

    /// A record with this refresh token is stored.
    pub(crate) fn stored(
        &mut self,
        key: Key,
        record: &str,
        generation: u64,
        access_token: Option<Serial>,
        refresh_token: Option<usize>,
    ) {
        self.say(format!("generation {generation} of key {key} is stored, with {refresh_token:?}"));
        if let Some(serial) = access_token {
            self.arrived(serial);
        }
        let Some(new) = refresh_token else { return };
        let stored = self.stored.entry((key, record.to_owned())).or_default();
        let before = *stored;
        *stored = new.max(before);
        self.require(I8, new >= before, || {
            format!("refresh token {new} of key {key} is stored over {before}, which is newer")
        });
    }

    /// A process is gone, with all that it had not stored.
    pub(crate) fn crashed(&mut self, instance: usize) {
        self.say(format!("{instance} is gone"));
        self.count("crash");
        let holder = &mut self.instances[instance];
        holder.gone = true;
        holder.held = None;
        let (key, persisted) = (holder.key, holder.persisted);
        self.abandoned(instance);
        self.credit(key, if persisted { Cause::Crashed } else { Cause::Started });
        self.forget_unsaved(key);
    }

    /// The requests of a process end with it.
    pub(crate) fn abandoned(&mut self, instance: usize) {
        self.requests.retain(|_, request| request.instance != instance);
    }

    /// A handle was dropped; requests under way may still hold it, and a fetch goes on.
    pub(crate) fn left(&mut self, instance: usize) {
        self.say(format!("the handle of {instance} is dropped"));
        self.count("handle dropped");
        let holder = &mut self.instances[instance];
        holder.left = true;
        let (key, persisted) = (holder.key, holder.persisted);
        if persisted {
            self.forget_unsaved(key);
        } else {
            self.credit(key, Cause::Started);
        }
    }

    /// A lease has ended under its holder: another process goes on with what is stored.
    pub(crate) fn lease_ended(&mut self, key: Key) {
        self.say(format!("a lease of key {key} has ended under its holder"));
        self.count("lease ended");
        self.forget_unsaved(key);
    }

    /// What was delivered and not stored is gone with its process.
    fn forget_unsaved(&mut self, key: Key) {
        let stored = self.stored.iter().filter(|((one, _), _)| *one == key).map(|(_, new)| *new);
        let stored = stored.max().unwrap_or_default();
        self.know(key, |successor| successor > stored, false);
    }

    /// A spent refresh token came back after its grace, and the server ended the grant.
    pub(crate) fn reused(&mut self, key: Key, old: usize) {
        self.say(format!("refresh token {old} of key {key} comes back, spent"));
        self.count("reuse");
        let spent = self.spent.get(&old).copied();
        let lost = spent.is_some_and(|spent| spent.lost);
        self.require(I8, lost, || {
            format!("key {key} sent refresh token {old}, and had a newer one: {spent:?}")
        });
        self.keys.entry(key).or_default().ended = true;
    }

    /// Somebody gave access again.
    pub(crate) fn granted_again(&mut self, key: Key) {
        self.say(format!("key {key} is given access again"));
        self.count("granted again");
        self.keys.entry(key).or_default().ended = false;
        self.credit(key, Cause::Started);
    }
}
