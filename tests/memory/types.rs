//! What secret types cannot do.

use serde::Serialize;
use tower_oauth::{
    ClientAuth, Error, FetchContext, FixedToken, RefreshToken, Secret, SecretSource, Token,
    TokenHandle, TokenSet,
};

/// Implemented once for every type, and once more for those that can be serialised: for these, the
/// item is ambiguous, and this file does not compile.
trait NotSerializable<Marker> {
    const HOLDS: bool = true;
}

impl<T: ?Sized> NotSerializable<()> for T {}

struct Also;

impl<T: ?Sized + Serialize> NotSerializable<Also> for T {}

#[test]
fn log_02_nothing_that_holds_a_secret_can_be_serialised() {
    let all = [
        <Secret as NotSerializable<_>>::HOLDS,
        <SecretSource as NotSerializable<_>>::HOLDS,
        <TokenSet as NotSerializable<_>>::HOLDS,
        <Token as NotSerializable<_>>::HOLDS,
        <TokenHandle as NotSerializable<_>>::HOLDS,
        <ClientAuth as NotSerializable<_>>::HOLDS,
        <RefreshToken as NotSerializable<_>>::HOLDS,
        <FixedToken as NotSerializable<_>>::HOLDS,
        <FetchContext as NotSerializable<_>>::HOLDS,
        <Error as NotSerializable<_>>::HOLDS,
    ];
    assert!(all.into_iter().all(|holds| holds));
}

/// `Display`, too, would put it into a text unasked.
trait NotDisplayable<Marker> {
    const HOLDS: bool = true;
}

impl<T: ?Sized> NotDisplayable<()> for T {}

impl<T: ?Sized + std::fmt::Display> NotDisplayable<Also> for T {}

#[test]
fn log_02_no_secret_can_be_displayed() {
    let all = [
        <Secret as NotDisplayable<_>>::HOLDS,
        <SecretSource as NotDisplayable<_>>::HOLDS,
        <TokenSet as NotDisplayable<_>>::HOLDS,
        <Token as NotDisplayable<_>>::HOLDS,
    ];
    assert!(all.into_iter().all(|holds| holds));
}
