//! Containers of `cntr run`.

use super::{Answer, Engine, Found};
use crate::container::nameplate::{Board, Named};

pub fn find(name: &str) -> Answer {
    let named = Board::own().ok().and_then(|board| board.find(name));
    named.map_or(Answer::Unknown, |one| Answer::Found(vec![found(one)]))
}

pub fn list() -> Answer {
    let all = Board::own().map(|board| board.list()).unwrap_or_default();
    Answer::Found(all.into_iter().map(found).collect())
}

fn found(named: Named) -> Found {
    let image = named.root.display().to_string();
    Found::new(Engine::Cntr, named.name, named.pid.as_raw()).image(image)
}
