"""SemiGDA: masks as images, the arithmetic of its latents, adapters that start silent, and its three stages."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_batches import at, balls, tiny_batch, tiny_task

from semiseg.losses.consistency import gaussian_rampup
from semiseg.losses.latent import (
    LatentScale,
    certain_from,
    decode_labels,
    draw_latent,
    encode_labels,
    gaussian_kl,
    soft_dice_loss,
)
from semiseg.methods.base import Task
from semiseg.methods.semigda import ALIGN, AUTOENCODE, SEGMENT, SemiGDA, _Branches
from semiseg.networks import build_network
from semiseg.networks.autoencoder import Decoder, Encoder, SkipAdapter
from semiseg.training.loop import Fit
from semiseg.training.options import TrainOptions


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _method(num_classes: int = 2, two_dimensional: bool = False, **options) -> SemiGDA:
    torch.manual_seed(0)
    return SemiGDA(tiny_task(num_classes, two_dimensional), SemiGDA.Options(**options))


def _stir(module: torch.nn.Module) -> None:
    """Gives the adapters something to do."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=_generator()))


# ---- masks as images ----


@pytest.mark.parametrize("num_classes", [2, 4, 14])
def test_masks_come_back_and_span_the_whole_range(num_classes):
    labels = torch.arange(2 * 6 * 7).view(2, 6, 7) % num_classes
    codes = encode_labels(labels, num_classes)
    assert codes.shape == (2, 1 if num_classes == 2 else num_classes, 6, 7)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(decode_labels(codes), labels)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_mask_read_out_as_encoded_is_certain(num_classes):
    """The released code reads out 0.5 for the background of a mask that was encoded as it trains."""
    network = build_network("semigda2d", 1, num_classes, {"width": 2, "depth": 2})
    labels = torch.arange(16).view(1, 4, 4) % num_classes
    found = network.read_out(encode_labels(labels, num_classes)).softmax(1)
    torch.testing.assert_close(found.argmax(1), labels)
    assert found.amax(1).min() > 0.998
    if num_classes == 2:
        torch.testing.assert_close(found[:, 1], labels.float(), atol=1e-3, rtol=0)


# ---- latents ----


def test_divergence_from_the_standard_normal_is_zero_there_alone():
    zero = torch.zeros(2, 4, 3, 3)
    assert gaussian_kl(zero, zero).item() == 0
    assert gaussian_kl(zero + 0.1, zero) > 0 and gaussian_kl(zero, zero + 0.1) > 0
    torch.testing.assert_close(gaussian_kl(zero + 2, zero), torch.tensor(36 * 2.0))  # 36 entries of 2^2 / 2


def test_divergence_agrees_with_drawing():
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.8]])
    other_mean, other_log_variance = torch.tensor([[0.0, -0.5]]), torch.tensor([[0.9, -0.1]])
    drawn = draw_latent(mean.expand(1_000_000, 2), log_variance.expand(1_000_000, 2), _generator())

    def log_density(m, v):
        return -0.5 * (v + (drawn - m).square() / v.exp()).sum(1)

    estimate = (log_density(mean, log_variance) - log_density(other_mean, other_log_variance)).mean()
    found = gaussian_kl(mean, log_variance, other_mean, other_log_variance)
    assert found.item() == pytest.approx(estimate.item(), abs=5e-3)


def test_squared_distance_is_the_divergence_of_equal_spreads():
    a, b = torch.randn(3, 8, generator=_generator()), torch.randn(3, 8, generator=_generator(1))
    variance = 0.7
    log_variance = torch.full_like(a, math.log(variance))
    distance = (a - b).square().mean()
    torch.testing.assert_close(distance, 2 * variance / 8 * gaussian_kl(a, log_variance, b, log_variance))


def test_drawn_latents_have_their_mean_and_spread_and_pass_gradients():
    mean = torch.full((200_000,), 0.4, requires_grad=True)
    log_variance = torch.full((200_000,), math.log(0.25), requires_grad=True)
    drawn = draw_latent(mean, log_variance, _generator())
    assert drawn.mean().item() == pytest.approx(0.4, abs=5e-3) and drawn.std().item() == pytest.approx(0.5, abs=5e-3)
    drawn.square().sum().backward()
    assert mean.grad.abs().min() > 0 and log_variance.grad.abs().sum() > 0


def test_unlabeled_term_is_half_contained_in_the_supervised_pair():
    """|a - g|^2 + |b - g|^2 = 2 |(a + b) / 2 - g|^2 + |a - b|^2 / 2, with the same latents on labeled and unlabeled images."""
    method, masks = _method(), encode_labels(tiny_batch().labels, 2)
    with torch.no_grad():
        g = method.network.standardize(method.network.encoder(masks).mean)
    a, b = (g + torch.randn(g.shape, generator=_generator(seed)) for seed in range(2))
    terms = method._latent_terms(_Branches(torch.cat([a, a]), torch.cat([b, b]), None), masks, ramp=1.0)
    middle = ((a + b) / 2 - g).square().mean()
    torch.testing.assert_close(terms["latent_supervised"], 2 * middle + terms["latent_unlabeled"] / 2)
    assert terms["latent_unlabeled"] > 1


def test_only_the_supervised_term_keeps_latents_from_collapsing():
    """Any constant map pleases the unlabeled term; the mask's latent does not let both branches be constant."""
    method = _method()
    for part in (method.network.mapping, method.network.residual_encoder):
        with torch.no_grad():
            for parameter in part.leave.parameters():
                parameter.zero_()
    terms = method(tiny_batch(), at(ALIGN, 1.0))
    assert terms["latent_unlabeled"].item() == 0 and terms["latent_supervised"].item() > 0.1


def test_scale_is_that_of_all_latents_at_first_and_moves_slowly_later():
    scale = LatentScale(3)
    latents = [torch.randn(2, 3, 5, 5, generator=_generator(seed)) * 3 + 7 for seed in range(4)]
    for latent in latents:
        scale.update(latent)
    pooled = torch.cat([x.transpose(0, 1).flatten(1) for x in latents], dim=1)
    torch.testing.assert_close(scale.mean, pooled.mean(1))
    torch.testing.assert_close(scale.spread, pooled.std(1, correction=0), rtol=1e-4, atol=1e-5)
    scale.num_updates.fill_(1000)
    scale.update(latents[0] + 100)
    assert 0.9 < (scale.mean - pooled.mean(1)).mean().item() < 1.1  # one hundredth of 100


# ---- Dice of soft masks ----


def test_soft_dice_of_masks_of_zeros_and_ones():
    a, b = torch.zeros(2, 1, 8), torch.zeros(2, 1, 8)
    a[..., :4], b[..., 4:] = 1, 1
    assert soft_dice_loss(a, a).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_loss(a, b).item() == pytest.approx(1, abs=1e-5)
    assert soft_dice_loss(0 * a, 0 * b).item() == 0
    mixed = torch.rand(2, 1, 8, generator=_generator())
    torch.testing.assert_close(soft_dice_loss(a, mixed), soft_dice_loss(mixed, a))


def test_soft_dice_of_a_soft_mask_with_itself_is_not_zero():
    p = torch.rand(1, 1, 100_000, generator=_generator())
    found = soft_dice_loss(p, p)
    torch.testing.assert_close(found, 1 - p.square().sum() / p.sum(), rtol=1e-4, atol=1e-5)
    assert found.item() == pytest.approx(1 / 3, abs=0.01)  # of uniform noise: 1 - (1/3) / (1/2)


@pytest.mark.parametrize(("temperature", "limit"), [(0.1, 0.933), (1.0, 0.5)])
def test_certainty_of_hard_labels(temperature, limit):
    """p^(1 / temperature) >= 1/2; what is as certain but apart is not the largest component."""
    assert certain_from(temperature) == pytest.approx(limit, abs=1e-3)
    p = torch.full((1, 8, 8, 8), 0.01)
    p[:, :, :, :3], p[:, :, :, 3:5], p[:, :2, :2, 7] = limit + 0.005, limit - 0.005, 0.99
    other = p.flip(-1)
    logits = [torch.stack([torch.zeros_like(one), one.logit()], dim=1).repeat(3, 1, 1, 1, 1) for one in (p, other)]
    method = _method(cross_labels="hard", temperature=temperature)
    found = method._targets(_Branches(torch.empty(0), torch.empty(0), tuple(logits)), count=1)
    expected = torch.zeros(2, 1, 8, 8, 8)
    expected[..., :3] = 1
    assert torch.equal(found[0], expected) and torch.equal(found[1], expected.flip(-1))


# ---- networks ----


def test_networks_have_the_counted_sizes():
    network = build_network("semigda3d", 1, 2)

    def millions(*parts):
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    assert millions(network.encoder, network.decoder) == pytest.approx(0.74, abs=0.02)
    assert millions(network.mapping) == pytest.approx(4.05, abs=0.01)
    assert millions(network.residual_encoder) == pytest.approx(1.53, abs=0.01)
    assert millions(network.image_adapters, network.mask_adapters) == pytest.approx(0.91, abs=0.01)
    assert millions(build_network("semigda2d", 1, 2).mapping) == pytest.approx(1.56, abs=0.01)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_both_encoders_give_what_the_decoder_takes(dims, num_classes):
    network = build_network(f"semigda{dims}d", 1, num_classes, {"width": 4, "depth": 3}).eval()
    image = torch.randn(2, 1, *(16, 8, 24)[:dims], generator=_generator())
    with torch.no_grad():
        encoding = network.encoder(network.as_code(image))
        latent, skips = network.residual_encoder(image)
        output = network(image)
    assert encoding.mean.shape == latent.shape == (2, 4, *[side // 4 for side in image.shape[2:]])
    assert [x.shape for x in encoding.skips] == [x.shape for x in skips]
    assert output.logits.shape == (2, num_classes, *image.shape[2:])
    torch.testing.assert_close(output.logits.softmax(1).sum(1), torch.ones(2, *image.shape[2:]))
    assert network.downscale == 4 and network.spatial_dims == dims
    assert output.features["head_input"].shape[1] == network.head.in_channels


def test_prediction_is_the_mean_of_both_branches():
    network = build_network("semigda2d", 1, 2, {"width": 4, "depth": 3}).eval()
    _stir(network)
    image = torch.randn(1, 1, 16, 16, generator=_generator())
    with torch.no_grad():
        encoding = network.encoder(network.as_code(image))
        mapped = network.mapping(network.standardize(encoding.mean))
        first, _ = network.decode(mapped, network.image_adapters, encoding.skips)
        latent, skips = network.residual_encoder(image)
        second, _ = network.decode(latent, network.mask_adapters, skips)
        assert (first - second).abs().max() > 1e-3
        torch.testing.assert_close(network(image).logits.softmax(1), (first.softmax(1) + second.softmax(1)) / 2)


@pytest.mark.parametrize("dims", [2, 3])
def test_adapters_start_silent(dims):
    encoder, decoder = Encoder(1, (4, 8), 4, dims), Decoder(1, (4, 8), 4, dims)
    image, latent = torch.randn(2, 1, *[8] * dims), torch.randn(2, 4, *[4] * dims)
    adapters = torch.nn.ModuleList(SkipAdapter(width, dims) for width in (8, 4))
    with torch.no_grad():
        skips = encoder(image).skips
        plain = decoder(latent)
        torch.testing.assert_close(decoder(latent, adapters, skips), plain)
        _stir(adapters)
        assert (decoder(latent, adapters, skips) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_network_decodes_as_if_it_had_no_adapters(dims):
    """Both sets: what alignment has reached is not disturbed when the last stage begins."""
    network = build_network(f"semigda{dims}d", 1, 2, {"width": 4, "depth": 3}).eval()
    image = torch.randn(2, 1, *[16] * dims, generator=_generator())
    with torch.no_grad():
        skips = network.encoder(network.as_code(image)).skips
        latent, other_skips = network.residual_encoder(image)
        plain = network.read_out(network.decoder(latent))
        for adapters, given in ((network.image_adapters, skips), (network.mask_adapters, other_skips)):
            torch.testing.assert_close(network.decode(latent, adapters, given)[0], plain)


def test_log_variances_are_kept_where_their_exponential_is_a_number():
    encoder = Encoder(1, (4, 8), 4, 2)
    with torch.no_grad():
        encoder.leave[2].bias.copy_(torch.tensor([0.0] * 4 + [1e6, 1e6, -1e6, -1e6]))
        log_variance = encoder(torch.randn(1, 1, 8, 8)).log_variance
    assert log_variance.amin().item() == -30 and log_variance.amax().item() == 20
    assert gaussian_kl(torch.zeros_like(log_variance), log_variance).isfinite()


def test_images_share_the_range_of_masks_and_their_channels():
    network = build_network("semigda2d", 1, 4, {"width": 2, "depth": 2})
    code = network.as_code(10 * torch.randn(2, 1, 8, 8))
    assert code.shape == (2, 4, 8, 8) and code.abs().max() <= 1
    torch.testing.assert_close(code[:, 0], code[:, 3])


# ---- stages ----


def _named(method: SemiGDA, which: str) -> dict[str, torch.Tensor]:
    parts = {
        AUTOENCODE: ("encoder.", "decoder."),
        ALIGN: ("mapping.", "residual_encoder."),
        SEGMENT: ("mapping.", "residual_encoder.", "image_adapters.", "mask_adapters."),
    }[which]
    return {name: p for name, p in method.network.named_parameters() if name.startswith(parts)}


@pytest.mark.parametrize("stage", [AUTOENCODE, ALIGN, SEGMENT])
def test_a_stage_teaches_its_parts_and_leaves_the_others_byte_for_byte(stage):
    method = _method()
    _stir(method.network)  # silent adapters would keep their first layers from learning in the very first step
    optimizer = torch.optim.AdamW(method.network.parameters(), 0.01)
    for earlier in (AUTOENCODE, ALIGN, stage):  # momentum of earlier stages must not move frozen parts
        before = {name: p.detach().clone() for name, p in method.network.named_parameters()}
        losses = method(tiny_batch(), at(earlier))
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        optimizer.step()
    learning = _named(method, stage)
    for name, parameter in method.network.named_parameters():
        if name in learning:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert parameter.grad is None and torch.equal(parameter, before[name]), name
    assert all((parameter != before[name]).any() for name, parameter in learning.items())


def test_a_resumed_run_freezes_the_same_parts():
    """``start_stage`` is not called again inside a stage."""
    method, other = _method(), _method()
    method.start_stage(SEGMENT)
    method(tiny_batch(), at(SEGMENT))
    other.load_state_dict(method.state_dict())
    other(tiny_batch(), at(SEGMENT))["total"].backward()
    assert all(p.grad is None for p in other.network.encoder.parameters())
    assert all(p.grad is None for p in other.network.decoder.parameters())


def test_losses_of_each_stage_are_those_of_the_paper():
    method, batch = _method(), tiny_batch()
    assert set(method(batch, at(AUTOENCODE))) == {"image_reconstruction", "mask_reconstruction", "latent_kl", "total"}
    assert set(method(batch, at(ALIGN))) == {"latent_supervised", "latent_unlabeled", "total"}
    latent = {"latent_supervised", "latent_unlabeled", "total"}
    assert set(method(batch, at(SEGMENT))) == latent | {"mask_supervised", "mask_unlabeled"}
    released = _method(**SemiGDA.presets["faithful"].method)
    assert set(released(batch, at(SEGMENT, 0.2))) == {"mask_supervised", "mask_unlabeled", "total"}
    assert "mask_copy_paste" in released(batch, at(SEGMENT, 0.5))


def test_terms_on_latents_and_masks_are_those_of_the_equations():
    """Latents are compared by their means, with the mask's latent as the target; decoded masks by soft Dice, with the other branch as the target."""
    method, batch = _method(), tiny_batch()
    method(batch, at(AUTOENCODE))  # so that latents are standardized by something
    _stir(method.network)
    with torch.no_grad():
        network = method.network
        target = network.standardize(network.encoder(encode_labels(batch.labels, 2)).mean)
        branches = method._branches(torch.cat([batch.labeled, batch.unlabeled]), _generator(), decodes=True)
        mapped, direct = branches.mapped, branches.direct
        first, second = (logits.softmax(1)[:, 1:] for logits in branches.logits)
        truth = batch.labels[:, None].float()
        terms, ramp = method(batch, at(SEGMENT, 0.3)), 0.1 * gaussian_rampup(0.3)
    expected = {
        "latent_supervised": (mapped[:2] - target).square().mean() + (direct[:2] - target).square().mean(),
        "latent_unlabeled": ramp * (mapped[2:] - direct[2:]).square().mean(),
        "mask_supervised": soft_dice_loss(first[:2], truth) + soft_dice_loss(second[:2], truth),
        "mask_unlabeled": ramp * 2 * soft_dice_loss(first[2:], second[2:]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_stopped_gradients_count_the_distance_of_latents_twice_and_pull_alike():
    """The released code's form: the same pull on each branch, so the option changes the number alone."""
    slopes, values = [], []
    for stop in (False, True):
        method = _method(stop_gradient=stop)
        value = method(tiny_batch(), at(ALIGN, 1.0))["latent_unlabeled"]
        part = [*method.network.mapping.parameters(), *method.network.residual_encoder.parameters()]
        slopes.append(torch.autograd.grad(value, part))
        values.append(value.detach())
    torch.testing.assert_close(values[1], 2 * values[0])
    for one, other in zip(*slopes):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_unlabeled_terms_follow_the_ramp_of_their_stage():
    method, batch = _method(), tiny_batch()
    for stage, name in ((ALIGN, "latent_unlabeled"), (SEGMENT, "mask_unlabeled")):
        early, late = (method(batch, at(stage, fraction))[name] for fraction in (0.0, 1.0))
        torch.testing.assert_close(early, gaussian_rampup(0.0) * late)


def test_branches_learn_from_each_other_without_moving_the_other():
    method, batch = _method(), tiny_batch()
    _stir(method.network.image_adapters)
    method._freeze_for(SEGMENT)
    generator = _generator()
    branches = method._branches(torch.cat([batch.labeled, batch.unlabeled]), generator, decodes=True)
    targets = method._targets(branches, 2)
    assert not any(target.requires_grad for target in targets)
    found = soft_dice_loss(branches.logits[0].softmax(1)[2:, 1:], targets[1])
    found.backward()
    assert all(p.grad is None for p in method.network.residual_encoder.parameters())
    assert sum(p.grad.abs().sum() for p in method.network.mapping.parameters()) > 0


def test_scale_of_mask_latents_reaches_the_network():
    method = _method()
    method(tiny_batch(), at(AUTOENCODE))
    latent = method.network.encoder(encode_labels(tiny_batch().labels, 2)).mean
    torch.testing.assert_close(method.network.latent_mean.flatten(), latent.mean((0, 2, 3, 4)), rtol=1e-3, atol=1e-4)
    standard = method.network.standardize(latent)
    torch.testing.assert_close(standard.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std((0, 2, 3, 4), correction=0), torch.ones(4), atol=1e-2, rtol=0)


def test_an_autoencoder_that_loses_masks_is_reported():
    method = _method()
    assert method.start_stage(AUTOENCODE) is None
    method.mask_dice.fill_(0.953)
    assert "0.953" in method.start_stage(ALIGN) and "0.99" in method.start_stage(ALIGN)
    method.mask_dice.fill_(0.995)
    assert method.start_stage(ALIGN) is None and method.start_stage(SEGMENT) is None


class _SameBatch:
    def __init__(self, **batch) -> None:
        self._batch = tiny_batch(**batch)

    def batch(self, iteration: int):
        return self._batch


def test_the_loop_tells_the_user_about_the_gate():
    told = []
    options = TrainOptions(iterations=4, patch_size=(1, 16, 16), warmup_iterations=0)
    method = _method(two_dimensional=True)
    Fit(
        method,
        _SameBatch(shape=(16, 16)),
        options,
        torch.device("cpu"),
        report=lambda kind, **v: told.append((kind, v)),
    ).run()
    warnings = [values["message"] for kind, values in told if kind == "warning"]
    assert len(warnings) == 1 and "autoencoder" in warnings[0]


def test_masks_survive_the_autoencoder_after_a_short_training():
    """The gate can be passed: one mask, plain gradient steps."""
    torch.manual_seed(0)
    method = SemiGDA(Task(2, "unet2d", {"width": 16, "depth": 3}, two_dimensional=True), SemiGDA.Options())
    images, labels = balls(2, (24, 24), 2, _generator())
    optimizer = torch.optim.AdamW(method.network.parameters(), 3e-3)
    codes = encode_labels(labels, 2)
    for step in range(100):
        terms = method._autoencode(images, codes, _generator(step), step)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    decoded = decode_labels(method.network.decoder(method.network.encoder(codes).mean))
    overlap = 2 * (decoded & labels).sum() / (decoded.sum() + labels.sum())
    assert overlap > 0.99
    assert method.diagnostics()["autoencoder_mask_dice"] > 0.9  # an average that looks back


@pytest.mark.parametrize(
    ("width", "depth", "expected"), [(16, 5, (8, 4)), (8, 5, (4, 4)), (2, 3, (4, 2)), (32, 6, (16, 5))]
)
def test_network_is_half_as_wide_and_a_level_less_deep_than_the_tasks(width, depth, expected):
    method = SemiGDA(Task(2, "vnet", {"width": width, "depth": depth}), SemiGDA.Options())
    assert method.deployed_network == ("semigda3d", {"width": expected[0], "depth": expected[1]})
    own = SemiGDA(Task(2, "vnet", {"width": width, "depth": depth}), SemiGDA.Options(width=2, depth=3))
    assert own.deployed_network == ("semigda3d", {"width": 2, "depth": 3})


def test_wrong_options_are_refused():
    for wrong in ({"cross_labels": "firm"}, {"autoencoder_share": 0.6, "align_share": 0.4}, {"align_share": 0.0}):
        with pytest.raises(ValueError, match="cross_labels|share"):
            SemiGDA.Options(**wrong)
    with pytest.raises(ValueError, match="1 channel"):
        build_network("semigda2d", 3, 2)
