// What GELU takes off max(x, 0), as polynomials: coefficient d of piece i of 16, for functions.h.
//
//   h(a) = sum over d of c[d][i] r^d,    r = 2.75 a - i,  i = round(2.75 a),  |r| <= 1/2
//
// Degree 5 through the Chebyshev nodes of each piece (piece 0: of r > 0, with h(0) = 0 exactly), in
// binary64, then rounded. The last piece, from a = 5.27 on, is 0: h is below 3.7e-7 there.
#pragma once

#include "kernels/device.h"

namespace mpq::kernels {

inline constexpr int kGeluTerms = 6, kGeluPieces = 16;
[[maybe_unused]] static constexpr float kGeluPiecesPerUnit = 2.75F;

// h(a) = a / 2 erfc(a / sqrt 2).
[[maybe_unused]] MPQ_TABLE static constexpr float kTakenByErf[kGeluTerms][kGeluPieces] = {
    {0, 0x1.0aa91cp-3F, 0x1.5bd4dep-3F, 0x1.338caep-3F, 0x1.b24f7cp-4F, 0x1.0110f6p-4F,
     0x1.04438ep-5F, 0x1.c72598p-7F, 0x1.598922p-8F, 0x1.c8e92p-10F, 0x1.079654p-11F,
     0x1.09ad9p-13F, 0x1.d43e6cp-16F, 0x1.68f40cp-18F, 0x1.e6fd0ep-21F, 0},
    {0x1.745d18p-3F, 0x1.4b11f2p-4F, 0x1.01afp-8F, -0x1.30fa56p-5F, -0x1.7f0444p-5F,
     -0x1.36f264p-5F, -0x1.891d6ep-6F, -0x1.9906dap-7F, -0x1.66ba2cp-8F, -0x1.0c8238p-9F,
     -0x1.598efp-11F, -0x1.801568p-13F, -0x1.71d832p-15F, -0x1.35356ep-17F, -0x1.c19f74p-20F, 0},
    {-0x1.b02622p-5F, -0x1.79c11cp-5F, -0x1.e7ff24p-6F, -0x1.821a16p-7F, 0x1.15a6f2p-10F,
     0x1.b03b84p-8F, 0x1.b98a7ep-8F, 0x1.2f5b18p-8F, 0x1.44b3a8p-9F, 0x1.1c7394p-10F,
     0x1.a165a8p-12F, 0x1.03c2ecp-13F, 0x1.1467f8p-15F, 0x1.f981cep-18F, 0x1.8eb0d8p-20F, 0},
    {-0x1.29ceb6p-19F, 0x1.13d53ep-8F, 0x1.9603a2p-8F, 0x1.623d9p-8F, 0x1.8ec7e2p-9F,
     0x1.952d6cp-11F, -0x1.014d62p-11F, -0x1.9e716p-11F, -0x1.3c3facp-11F, -0x1.5bbab6p-12F,
     -0x1.2e64d4p-13F, -0x1.afd92ap-15F, -0x1.021f04p-16F, -0x1.0540acp-18F, -0x1.c31406p-21F, 0},
    {0x1.3408p-10F, 0x1.b64c04p-11F, 0x1.11aap-13F, -0x1.e3dc3ep-12F, -0x1.4caea4p-11F,
     -0x1.de20ccp-12F, -0x1.7a8026p-13F, 0x1.70dde6p-18F, 0x1.1e78b8p-14F, 0x1.f630e6p-15F,
     0x1.1bd2ep-15F, 0x1.e880e2p-17F, 0x1.527df2p-18F, 0x1.83e32p-20F, 0x1.7521dp-22F, 0},
    {-0x1.df73d8p-16F, -0x1.f01788p-14F, -0x1.327feap-13F, -0x1.50a0f6p-14F, 0x1.0ee4c6p-17F,
     0x1.c6fc42p-15F, 0x1.a167ap-15F, 0x1.906632p-16F, 0x1.b0ce94p-19F, -0x1.41fafcp-18F,
     -0x1.47aa3p-18F, -0x1.75e63p-19F, -0x1.38c95cp-20F, -0x1.9dcb2ap-22F, -0x1.bfa006p-24F, 0}};

// h(a) = a / (1 + exp(2 u)), u = sqrt(2 / pi) (a + 0.044715 a^3).
[[maybe_unused]] MPQ_TABLE static constexpr float kTakenByTanh[kGeluTerms][kGeluPieces] = {
    {0, 0x1.0aabdcp-3F, 0x1.5bf5a8p-3F, 0x1.33ecdap-3F, 0x1.b33d3p-4F, 0x1.0147d8p-4F,
     0x1.02337ap-5F, 0x1.b848dap-7F, 0x1.3c96e4p-8F, 0x1.7b359cp-10F, 0x1.74693ap-12F,
     0x1.26a23ap-14F, 0x1.70a29cp-17F, 0x1.65c406p-20F, 0x1.081fb6p-23F, 0},
    {0x1.745d18p-3F, 0x1.4b26e8p-4F, 0x1.08365cp-8F, -0x1.30085cp-5F, -0x1.7f7c8p-5F,
     -0x1.3932c4p-5F, -0x1.8dd9ecp-6F, -0x1.9c21fp-7F, -0x1.600a9ep-8F, -0x1.edd6cp-10F,
     -0x1.19108ep-11F, -0x1.ff2162p-14F, -0x1.6cc9d2p-16F, -0x1.913424p-19F, -0x1.4d9ae2p-22F, 0},
    {-0x1.b02622p-5F, -0x1.79884ap-5F, -0x1.e7560ep-6F, -0x1.835a66p-7F, 0x1.ec03cep-11F,
     0x1.ab802cp-8F, 0x1.bd547cp-8F, 0x1.36f91p-8F, 0x1.4dab82p-9F, 0x1.1bf1bap-10F,
     0x1.800054p-12F, 0x1.98b61ep-14F, 0x1.5170eap-16F, 0x1.a91392p-19F, 0x1.914cep-22F, 0},
    {-0x1.308212p-19F, 0x1.14b638p-8F, 0x1.955692p-8F, 0x1.5fdc6cp-8F, 0x1.8d8cdcp-9F,
     0x1.a93fa6p-11F, -0x1.da7e8ep-12F, -0x1.9f02eap-11F, -0x1.496bd2p-11F, -0x1.6ea8eep-12F,
     -0x1.33b778p-13F, -0x1.8a9f48p-15F, -0x1.80cdaep-17F, -0x1.1a0632p-19F, -0x1.323224p-22F, 0},
    {0x1.359d02p-10F, 0x1.b5c3a2p-11F, 0x1.fdd31ep-14F, -0x1.e4a83p-12F, -0x1.4631acp-11F,
     -0x1.d639cp-12F, -0x1.89065cp-13F, -0x1.1818eep-18F, 0x1.1794dap-14F, 0x1.0b441ap-14F,
     0x1.356ce2p-15F, 0x1.fb6086p-17F, 0x1.307276p-18F, 0x1.0c57a8p-20F, 0x1.59129cp-23F, 0},
    {-0x1.ea5018p-16F, -0x1.f9509ap-14F, -0x1.3302bap-13F, -0x1.43aa2ap-14F, 0x1.37a5bap-17F,
     0x1.afa9eap-15F, 0x1.8f400cp-15F, 0x1.a0b6f4p-16F, 0x1.4bdc56p-18F, -0x1.28c11p-18F,
     -0x1.69b788p-18F, -0x1.a9de5cp-19F, -0x1.499276p-20F, -0x1.63da1ep-22F, -0x1.0faa5p-24F, 0}};

}  // namespace mpq::kernels
